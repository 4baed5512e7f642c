"""The Hub: a build, the metric or a model compared with its repository, pushed in one commit and checked."""
