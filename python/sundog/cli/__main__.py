"""python -m sundog.cli"""

from sundog.cli import main

main()
