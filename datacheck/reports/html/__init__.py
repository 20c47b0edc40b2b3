"""Reports as one HTML file: no script, nothing from the network, and readable without its style sheet."""
