"""English words that do not indicate the topic of a sentence."""

from __future__ import annotations

from typing import Final

_COMMON: Final = """
a about above after again against ago all almost also although always am among an and another any anything are around
as at be because become been before being below between both but by called can cannot come could did do does doing
done down during each eight either enough even ever every few first five for four from further gave get give given go
goes going gone good got had has have having he her here hers herself him himself his how i if in into is it its
itself just keep kind know known last least less like made make many may me might more most much must my myself need
never next nine no none nor not nothing now number of off often on once one only or other others our out over own part
people per perhaps person please quite rather really said same say says second seem seven several shall she should
since six so some someone something sometimes speaking still such ten than that the their them then there these they
thing things think third this those though three through time to together too took toward two under until up upon us
use used using usually very via want was we well went were what whatever when where whether which while who why will
with within without would year yes yet you your yourself
"""

COMMON: Final = frozenset(_COMMON.split())
