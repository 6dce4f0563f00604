"""The background of maps: tiles with land, borders and names, drawn here without another server."""
