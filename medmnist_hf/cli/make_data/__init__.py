"""The commands that make, check and publish builds."""
