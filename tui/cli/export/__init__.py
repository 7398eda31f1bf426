"""A session taken away: files for programs, a page for people, the chart as a picture."""
