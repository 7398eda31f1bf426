"""Hints of crashes: a crash's reason held against what is known here"""
