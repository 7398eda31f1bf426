"""Folder of a session: its paths, options, lock and log, and the folders of state and caches"""
