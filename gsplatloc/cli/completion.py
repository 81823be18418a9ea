"""Completion by bash and zsh: `source <(gsplatloc completion)`.

The script completes commands, options and files. It asks `gsplatloc COMMAND --help` for the options, once for
each command and shell, so that the options of plugins are completed, too.
"""

from gsplatloc.arguments.completion import CompletionArguments
from gsplatloc.cli import COMMANDS
from gsplatloc.cli.setup import COMMANDS as DATA_SETS
from gsplatloc.utils.console import log

_FOR_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"
_SCRIPT = r"""_gsplatloc() {
  local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]}
  if (( COMP_CWORD == 1 )); then
    COMPREPLY=($(compgen -W "@commands" -- "$word"))
    return
  fi
  if [[ $command == setup ]]; then
    if (( COMP_CWORD == 2 )); then
      COMPREPLY=($(compgen -W "@data_sets" -- "$word"))
      return
    fi
    command="setup ${COMP_WORDS[2]}"
  fi
  if [[ $word == -* ]]; then
    local known=_gsplatloc_options_${command//[^a-z0-9]/_}
    if [[ -z ${!known} ]]; then
      printf -v "$known" %s "$("${COMP_WORDS[0]}" $command --help 2> /dev/null |
        grep -oE -- '--[A-Za-z][A-Za-z0-9_.]*' | sort -u | tr '\n' ' ')"
    fi
    COMPREPLY=($(compgen -W "${!known}" -- "$word"))
  fi
}
complete -o default -F _gsplatloc gsplatloc
"""


def main(arguments: CompletionArguments) -> None:
    """Run the command."""
    script = _SCRIPT.replace("@commands", " ".join(COMMANDS)).replace("@data_sets", " ".join(DATA_SETS))
    log((_FOR_ZSH if arguments.shell == "zsh" else "") + script.rstrip())
