"""The leaderboard pane."""
