"""`python -m fsdriver`."""

from fsdriver.main import main

main()
