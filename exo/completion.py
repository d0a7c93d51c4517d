"""Print a completion of this command for a shell, made from its own parsers.

For the names of what runs it asks 'exo ps --names'.
"""

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import NamedTuple

from exo import verbs

ARGUMENTS = "bash | zsh | fish"
EXAMPLES = """\
  eval "$(exo completion bash)"          in ~/.bashrc
  eval "$(exo completion zsh)"           in ~/.zshrc, after compinit
  exo completion fish > ~/.config/fish/completions/exo.fish"""

NAMED = ("kill", "logs", "mem", "ping", "press")
"""Verbs whose argument is the name of an environment."""
NAMED_AFTER = {"sched": ("set", "timeline", "why")}
"""Verbs with words behind which there is such a name."""


class Option(NamedTuple):
    """One option of a verb, or one of the words its argument may be."""

    words: tuple[str, ...]
    help: str
    takes_value: bool
    choices: tuple[str, ...]


def configure(parser: ArgumentParser) -> None:
    """Add the argument of `completion`."""
    parser.add_argument("shell", choices=sorted(SHELLS))


def main(options: Namespace) -> int:
    """Print it."""
    print(SHELLS[options.shell]())
    return 0


def options_of(verb: str) -> Iterator[Option]:
    """Yield the words that can follow *verb*, from its parser."""
    for action in verbs.parser(verb)._actions:  # noqa: SLF001 - argparse has no public way to list them
        choices = tuple(map(str, action.choices or ()))
        takes_value = action.nargs != 0
        text = "show the help of the verb" if isinstance(action, argparse._HelpAction) else action.help or ""  # noqa: SLF001
        yield Option(tuple(action.option_strings), text, takes_value, choices)


def _words(verb: str) -> list[str]:
    found = list(options_of(verb))
    named = [word for option in found for word in option.words]
    return named + [word for option in found if not option.words for word in option.choices]


def bash() -> str:
    """Return the completion for bash."""
    cases = "\n".join(f'        {verb}) words="{" ".join(_words(verb))}" ;;' for verb in verbs.VERBS)
    behind = "|".join(f"{verb}:{word}:*" for verb, words in NAMED_AFTER.items() for word in words)
    return f"""\
_exo() {{
    local words cur=${{COMP_WORDS[COMP_CWORD]}} verb=${{COMP_WORDS[1]}}
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{" ".join(verbs.VERBS)} --help --run --version" -- "$cur"))
        return
    fi
    case $verb in
{cases}
    esac
    case $verb:$cur in
        {"|".join(f"{verb}:[!-]*|{verb}:" for verb in NAMED)}) words=$(exo ps --names 2>/dev/null) ;;
    esac
    case $verb:${{COMP_WORDS[2]-}}:$COMP_CWORD:$cur in
        *:*:2:*|*:-*) ;;
        {behind}) words=$(exo ps --names 2>/dev/null) ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o default -F _exo exo"""


def zsh() -> str:
    """Return the completion for zsh."""
    listed = "\n".join(f"        {_single(f'{verb}:{text}')}" for verb, text in verbs.VERBS.items())
    cases = "\n".join(f"        {verb}) _arguments {_zsh_arguments(verb)} ;;" for verb in verbs.VERBS)
    return f"""\
#compdef exo
_exo_names() {{ compadd -- ${{(f)"$(exo ps --names 2>/dev/null)"}} }}
_exo() {{
    local -a verbs=(
{listed}
    )
    if (( CURRENT == 2 )); then _describe verb verbs; return; fi
    local verb=$words[2]
    shift words; (( CURRENT-- ))
    case $verb in
{cases}
    esac
}}
compdef _exo exo"""


def _zsh_arguments(verb: str) -> str:
    rest = "'*:name:_exo_names'" if verb in NAMED else "'*:file:_files'"
    parts = []
    for option in options_of(verb):
        value = f":value:({' '.join(option.choices)})" if option.choices else ":value:_files"
        parts += [
            _single(f"{word}[{_plain(option.help)}]{value if option.takes_value else ''}")
            for word in option.words
        ]
        if not option.words and option.choices:
            which = f"'{{}}:word:({' '.join(option.choices)})'"
            behind = f"{which.format(1)} '*:name:_exo_names'"
            rest = behind if verb in NAMED_AFTER else which.format("*")
    return " ".join([*parts, rest])


def fish() -> str:
    """Return the completion for fish."""
    lines = ["complete -c exo -f"]
    lines += [
        f"complete -c exo -n __fish_use_subcommand -a {verb} -d {_single(text)}"
        for verb, text in verbs.VERBS.items()
    ]
    for verb in verbs.VERBS:
        seen = f"complete -c exo -n '__fish_seen_subcommand_from {verb}'"
        files = "" if verb in NAMED else " -F"
        lines.append(f"{seen} -a '(exo ps --names 2>/dev/null)'" if verb in NAMED else f"{seen}{files}")
        if verb in NAMED_AFTER:
            behind = f"{seen[:-1]}; and __fish_seen_subcommand_from {' '.join(NAMED_AFTER[verb])}'"
            lines.append(f"{behind} -a '(exo ps --names 2>/dev/null)'")
        for option in options_of(verb):
            named = [_fish_option(word) for word in option.words]
            choices = (
                f" -xa {_single(' '.join(option.choices))}" if option.choices else " -r" * option.takes_value
            )
            if named:
                lines.append(f"{seen} {' '.join(named)}{choices} -d {_single(option.help)}")
            elif option.choices:
                lines.append(f"{seen} -a {_single(' '.join(option.choices))}")
    return "\n".join(lines)


def _fish_option(word: str) -> str:
    """Return fish's kind of an option: long, short, or long with one dash."""
    if word.startswith("--"):
        return f"-l {word[2:]}"
    return f"-o {word[1:]}" if len(word) > len("-x") else f"-s {word[1:]}"


def _single(text: str) -> str:
    """Quote for a shell."""
    return "'" + text.replace("'", r"'\''") + "'"


def _plain(text: str) -> str:
    """Remove characters that zsh would read as more than text."""
    return "".join(c for c in text if c not in "[]:'")


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
