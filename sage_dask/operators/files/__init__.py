"""Files, record by record: reading them row by row, and writing them so that they end whole."""
