"""Screens for reading: experiment, comparison, lineage, failures, costs and logs"""
