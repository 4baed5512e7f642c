"""Push a build, the metric or a model to the Hub: compare with the repository, commit once, then verify."""
