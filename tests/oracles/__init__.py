"""Golden tables: answers of heavy libraries, made by the module beside each table and kept as JSON.

`make test-oracles` installs those libraries, makes every table again and compares. The suite itself
only reads the tables.
"""
