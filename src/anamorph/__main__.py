from anamorph.cli.main import main

main()
