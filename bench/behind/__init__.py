"""Test suites of programs that speak over a connection, with the programs behind tine: started by
`tine serve` for each connection, or copied from a template (`bench/warm-suites`)."""
