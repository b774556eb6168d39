"""python -m sundog"""

from sundog.cli import main

main()
