"""Words about things that few collections of images show: what they score in a gallery is what
words that mean nothing there score."""

from __future__ import annotations

_THINGS = """
    an astrolabe; the inside of a harpsichord; an electron micrograph of pollen; a circuit diagram
    of an amplifier; a nautical chart of a strait; a loom with half a carpet; a tax form filled in
    by hand; a fuel rod of a reactor; a deep-sea anglerfish; a page of a Gutenberg Bible; a lathe
    turning a brass bolt; an X-ray of a knee; a barograph's paper roll; a glass blower's furnace;
    a sundial on a church wall; a telegraph key; a chess position with two kings; a cross-section
    of a root; a suit of samurai armour; a surgical tray; a stave church; a cuneiform tablet; a
    hovercraft; a printing plate of a banknote; a beekeeper's smoker; a Geiger counter; a tunnel
    boring machine; a puppet theatre; an iron lung; the stops of a pipe organ; a periodic table; a
    diving bell; a rack of server cables; a dentist's mould; a curling stone; a wind tunnel; a
    bowl of borscht; a stamp with a king's head; a coelacanth in a jar; a snow plough on rails; a
    bagpipe; a mosaic floor of a Roman bath; a lunar rover; a typewriter's ribbon; the roof ring
    of a yurt; a bathyscaphe; a fencing mask; a planetarium projector; an oil rig's drill floor; a
    petri dish with mould; a sedan chair; a trilobite; a cable ferry; a ventilation shaft; a wax
    seal; a zoetrope; a slide rule; an abacus; a kiln full of bricks; a theodolite on a tripod; a
    magic lantern; a hydraulic press; a spinning wheel; a cloud chamber
"""
PROMPTS = tuple(f"a photo of {thing}" for thing in " ".join(_THINGS.split()).split("; "))
