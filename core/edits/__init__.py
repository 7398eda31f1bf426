"""Edits of text: matched, applied, compared, read from patches, checked against rules. Pure"""
