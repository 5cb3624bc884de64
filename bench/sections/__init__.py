"""The sections of bench/run, by subject. Each returns a table, or several, for the report; a
table's `values` are those of the promises that it shows, by their ids in bench/promises.toml."""
