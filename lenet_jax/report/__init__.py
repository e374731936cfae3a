"""Output for people: lines on the terminal, text tables, figures and HTML pages."""
