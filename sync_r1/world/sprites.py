"""Pixel art of the embedded world, as text: data without code, as long as its pictures are high. A `Thing` always
renders to the same 32×32 picture.

Sprites are left halves, mirrored when drawn. Letters: `.` see-through, `o` outline, `c` the thing's colour with its
pattern, `l` its light tint, `s` skin, `h` hair, `e` eye, `w` white, `p` pink, `y` yellow, `g` grey, `b` blue, `r` red,
`n` green, `t` teal, `u` purple, `a` orange.
"""

from __future__ import annotations

BODIES = {  # 24 rows of 8: head (10) and body (14)
    "man": """
...hhhhh
..hhhhhh
..hhssss
..hsssss
..sseess
..sseess
..hsssss
..hhsspp
...hhhhh
....hhhs
..cccccc
.ccccccc
cccccccc
cccccccc
cccccccc
cc.ccccc
ss.ccccc
ss.ccccc
...oooo.
...oooo.
...oooo.
...oooo.
...ooo..
..oooo..""",
    "woman": """
...hhhhh
..hhhhhh
.hhhhhhh
.hhhssss
.hhsssss
.hhseess
.hhseess
.hhsssss
.hhhsspp
.hhhhsss
.hhccccc
.hcccccc
..cccccc
.sscccsc
ss.ccccc
...ccccc
..cccccc
..cccccc
.ccccccc
.ccccccc
cccccccc
cccccccc
....ss..
....oo..""",
    "boy": """
..h.h.h.
..hhhhhh
..hhhhhh
..hsssss
..sseess
.ssseess
..ssssss
..sssspp
...sssss
.....sss
...ccccc
..cccccc
.ccccccc
.ccccccc
sscccccc
ss.ccccc
...ccccc
...cccc.
...cccc.
...ssss.
...ss...
...ss...
...ss...
..www...""",
    "girl": """
.....hhh
hh.hhhhh
hhhhhhhh
hhhhssss
hh.sssss
hh.seess
h..seess
...sssss
....sspp
.....sss
....cccc
...ccccc
..cccccc
.ssccccc
ss.ccccc
..cccccc
.ccccccc
cccccccc
cccccccc
..ss....
...ss...
...ss...
...ss...
..rrr...""",
    "dog": """
oo......
ccoooooo
cccccccc
cccccccc
ccceeccc
occeeccc
occcllll
.ccllloo
..ccllol
...ccccc
..cccccc
.ccccccc
.ccccccc
.ccccccc
.ccccccc
.ccccccc
..cccccc
..cccccc
..cccccc
..ccc.cc
..ccc...
..ccc...
..lll...
.llll...""",
    "cat": """
.oo.....
.coo....
.cccoooo
.ccccccc
.ccccccc
.cneeccc
.cneeccc
.cccccpp
.lcclllp
..lccccc
...ccccc
..cccccc
..cccccc
..cccccc
..cccccc
..cccccc
..cccccc
..cccccc
..cccccc
..ccc.cc
..ccc...
..ccc...
..ccc...
..www...""",
    "rabbit": """
...cc...
..cpc...
..cpcc..
..cpcccc
..cccccc
..cceecc
..cceecc
..cccccp
..llcclw
...lllww
...ccccc
..cccccc
.ccccccc
.ccccccc
.ccccccc
.ccccccc
.ccccccc
.ccccccc
.ccccccc
..cccccc
..cccccc
.ccccc..
.lllll..
llllll..""",
    "bear": """
.ooo....
oclooooo
occccccc
.ccccccc
.ccccccc
.cceeccc
.cceelll
.ccllooo
.ccclllo
..cccccc
.ccccccc
cccccccc
cccccccc
cccccccc
cccccccc
cccccccc
cccccccc
lccccccc
.ccccccc
.ccccccc
.cccc.cc
.cccc...
.llll...
.llll...""",
    "robot": """
.......r
.......g
.ggggggg
.gggggggg
.gbbbbbb
.gbeebbb
.gbeebbb
.gggggggg
.gowowow
..gggggg
.....ggg
.ccccccc
gccccccc
gccccccc
gccccccc
g.cccccc
g.cccccc
g.cccccc
o.cccccc
..cccccc
...gg...
...gg...
...gg...
..oooo..""",
    "mug": """
........
...g..g.
..g..g..
...g..g.
........
.ooooooo
.owwwwww
.occcccc
.cceeccc
.cceeccc
cccccccc
cccccccc
c.cccccc
c.cccccc
c.cccccc
c.cccccc
c.cccccc
cccccccc
.ccccccc
.ccccccc
.ccccccc
.ccccccc
.ooooooo
..oooooo""",
    "lantern": """
......oo
.....o..
.....o..
....oooo
...ooooo
..oooooo
..oyyyyy
..oyeeyy
..oyeeyy
..oyyyyy
..oooooo
..cccccc
..cccccc
..cccccc
..cccccc
..cccccc
..cccccc
..cccccc
..cccccc
..cccccc
..cccccc
..oooooo
...ooooo
..oooooo""",
    "vase": """
...n....
..nnn..p
...n..pp
...n...p
....n..n
....oooo
.....ccc
.....cee
.....ccc
....cccc
...ccccc
..cccccc
.ccccccc
cccccccc
cccccccc
cccccccc
cccccccc
cccccccc
.ccccccc
.ccccccc
..cccccc
...ccccc
...ooooo
...ooooo""",
}

HATS = {  # 8 rows of 8, drawn over the top of the head
    "cap": """
........
........
....rrrr
...rrrrr
..rrrrrr
..rrrrww
oooooooo
........""",
    "crown": """
........
.y....yy
.yy..yyy
.yyyyyyr
.yryyyyy
.yyyyyyy
.aaaaaaa
........""",
    "tophat": """
...ooooo
...ooooo
...ooooo
...ooooo
...uuuuu
...ooooo
oooooooo
........""",
    "bow": """
........
.pp.....
.pppp...
.ppppprr
.ppppprr
.pppp...
.pp.....
........""",
    "beanie": """
......ww
......ww
....tttt
...ttttt
..tttttt
..wwwwww
..tttttt
........""",
}

MARKS = {  # 8×8 patch on the chest, whole
    "star": """
.wwwwww.
wwwoowww
wwwoowww
woooooow
wwooooww
wwoooowx
woowwoow
.wwwwww.""",
    "heart": """
.wwwwww.
wrrwwrrw
rrrrrrrr
rrrrrrrr
wrrrrrrw
wwrrrrww
wwwrrwww
.wwwwww.""",
    "moon": """
.uuuuuu.
uuuyyyuu
uuyyuuuu
uyyuuuuu
uyyuuuuu
uuyyuuyu
uuuyyyuu
.uuuuuu.""",
    "bolt": """
.oooooo.
ooooyyoo
oooyyooo
ooyyyyoo
oooyyooo
ooyyoooo
oyyooooo
.oooooo.""",
}

ITEMS = {  # 8×8, held beside the body
    "balloon": """
..rrrr..
.rrrrrr.
.rwrrrr.
.rrrrrr.
..rrrr..
...rr...
...o....
....o...""",
    "flag": """
onnnnnn.
onnnnnnn
onwwwwn.
onnnnnnn
onnnnnn.
o.......
o.......
o.......""",
    "book": """
........
bbbbbbbb
bwwwwwbb
bbbbbbbb
bwwwbbbb
bbbbbbbb
bbbbbbbb
wwwwwww.""",
    "umbrella": """
...uu...
.uuuuuu.
uuwuuwuu
uuwuuwuu
u..oo..u
...oo...
...oo...
..ooo...""",
    "flower": """
..pp.pp.
.pppyppp
..pyyyp.
.pppyppp
..pp.pp.
....n...
..nnn...
....n...""",
    "apple": """
....o...
...onn..
.rrrorr.
rrrrrrrr
rwrrrrrr
rrrrrrrr
.rrrrrr.
..rr.rr.""",
    "kite": """
...aa...
..aayy..
.aaayyy.
aaaayyyy
yyyyaaaa
.yyyaaa.
..yyaa..
...ya..o""",
    "fish": """
........
..tttt.t
.ttttttt
tottttt.
tttttttt
.ttttt.t
..tttt..
........""",
}

PALETTE = {
    "o": (38, 34, 42),
    "e": (24, 20, 30),
    "s": (246, 205, 166),
    "h": (92, 58, 36),
    "w": (250, 250, 246),
    "p": (250, 130, 170),
    "y": (255, 217, 61),
    "g": (150, 158, 172),
    "b": (58, 110, 220),
    "r": (214, 48, 49),
    "n": (52, 168, 83),
    "t": (24, 170, 170),
    "u": (128, 70, 190),
    "a": (245, 130, 32),
    "x": (250, 250, 246),
}

COLOURS = {
    "red": (206, 44, 44),
    "orange": (240, 136, 36),
    "yellow": (246, 208, 52),
    "green": (62, 160, 72),
    "blue": (52, 98, 214),
    "purple": (132, 66, 182),
    "pink": (244, 136, 190),
    "brown": (122, 76, 44),
}

SCENES = {  # sky, ground
    "beach": ((150, 216, 240), (238, 214, 150)),
    "forest": ((176, 220, 190), (76, 120, 60)),
    "city": ((190, 196, 210), (110, 112, 120)),
    "snow": ((206, 226, 242), (248, 250, 255)),
    "desert": ((252, 224, 170), (226, 170, 96)),
    "night": ((28, 32, 72), (44, 58, 66)),
    "room": ((240, 216, 214), (166, 116, 80)),
    "meadow": ((168, 220, 255), (124, 200, 92)),
}

DECOR = {  # 8 wide × 12 high, upper corner of the picture; the other corner gets it mirrored, one or both shown
    "beach": """
........
..yyyy..
.yyyyyy.
.yyyyyy.
.yyyyyy.
..yyyy..
........
........
bbbbbbbb
bbwwbbww
bbbbbbbb
bbbbbbbb""",
    "forest": """
...nn...
..nnnn..
.nnnnnn.
..nnnn..
.nnnnnn.
nnnnnnnn
..nnnn..
.nnnnnn.
nnnnnnnn
...hh...
...hh...
...hh...""",
    "city": """
........
.ggggg..
.gygyg..
.ggggg..
.gygyggg
.ggggggy
.gygyggg
.ggggggy
.gygyggg
.ggggggy
.gygyggg
.ggggggg""",
    "snow": """
...b....
.b.b.b..
..bbb...
bbbwbbb.
..bbb...
.b.b.b..
...b....
......b.
.b...bbb
bbb...b.
.b......
........""",
    "desert": """
........
........
...nn...
...nn..n
n..nn..n
n..nn..n
n..nnnnn
nnnnn...
...nn...
...nn...
...nn...
...nn...""",
    "night": """
..yyy...
.yyy....
.yy.....
.yy.....
.yyy..w.
..yyy...
........
w.......
.....w..
........
..w.....
.......w""",
    "room": """
hhhhhhhh
hbbhbbbh
hbbhbbbh
hbbhbbbh
hhhhhhhh
hbbhbbbh
hbbhbbbh
hhhhhhhh
........
........
........
........""",
    "meadow": """
........
..www...
.wwwwww.
wwwwwwww
........
........
........
.p......
pyp...a.
.p...aya
.n....a.
.n....n.""",
}
