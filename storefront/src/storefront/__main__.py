"""Run the program as `python -m storefront`."""

from storefront.cli import main

main()
