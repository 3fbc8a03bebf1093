"""`python -m agent.cli`: the same as `vitrine`, where no script is on the path."""

from agent.cli.main import main

main()
