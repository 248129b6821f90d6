"""The part of a report in which a pair can be looked through: planes, a rendering, maps, labels and landmarks."""
