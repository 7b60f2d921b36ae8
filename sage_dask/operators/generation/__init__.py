"""What prompting and answering rest on: templates, sentences, and whoever writes the answer."""
