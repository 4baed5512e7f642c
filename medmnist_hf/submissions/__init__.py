"""Entries of a public leaderboard: prediction files and a description of how they were made, checked and published."""
