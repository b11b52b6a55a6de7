"""From images to parts: sources, tasks, who does them; and parts from and to local galleries."""
