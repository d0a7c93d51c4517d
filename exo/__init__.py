"""The `exo` command, one module a verb. Nothing heavy is imported before a verb needs it.

A verb's module has `ARGUMENTS` (how it is called), `EXAMPLES`, `configure(parser)` and `main(options)`; its
docstring is what `exo VERB --help` says. `__main__` finds it by its name in `verbs.VERBS`.
"""
