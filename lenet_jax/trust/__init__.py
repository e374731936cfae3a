"""What a configuration must not hold, whoever wrote it: the name of code to run, and ways to have Hydra run it.

Hydra makes launcher, sweeper and callbacks of a `_target_`, and loggers of whatever class the words of
`logging.config` name; it imports the packages in its search path, and sets variables before a program is looked for.
What comes from a directory that somebody else may have made is checked more strictly.
"""
