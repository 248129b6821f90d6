"""anamorph in napari: a widget that registers two image layers, and a reader that puts scans where they lie."""
