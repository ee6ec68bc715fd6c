"""How experiments run: domains, engine, store, tables, outlets, assets, and the commands over them."""
