"""Export of a session: files for programs, an HTML page, the chart as a picture"""
