"""The `exo` command, one module a verb. Nothing heavy is imported before a verb needs it.

A verb's module has `ARGUMENTS` (its usage), `EXAMPLES`, `configure(parser)` and `main(options)`; its
docstring is the text of `exo VERB --help`. `__main__` finds it by its name in `verbs.VERBS`.
"""
