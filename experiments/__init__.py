"""How experiments run: pairs, latent cache, generation, evaluation, store, tables, figures, tracking."""
