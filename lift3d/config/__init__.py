"""What a run is told: schema, presets, and categories in TOML files."""
