"""Sentences that are not bulletins, to see whether a model says so; written before any model was trained."""

from __future__ import annotations

OFF_DOMAIN = tuple(
    line.strip()
    for line in """
The committee rejected the proposal after a long debate about taxes.
Scientists have discovered a new species of frog in the rainforest.
The prime minister resigned amid allegations of corruption.
Stocks tumbled as investors worried about rising inflation.
Police arrested two suspects in connection with the robbery.
The treaty was ratified by all but three members of the union.
An earthquake of magnitude six struck the capital shortly before dawn.
Researchers claim that the vaccine protects against all known variants.
The striker scored twice in extra time to win the cup.
Voters will elect a new parliament under the revised constitution.
The court ruled that the evidence had been obtained illegally.
Unemployment fell for the third consecutive quarter.
Thousands of protesters marched through the streets demanding reform.
The spacecraft sent back its first images of Saturn's rings.
A fire destroyed the historic library, but no one was hurt.
The central bank left interest rates unchanged.
He has been nominated for the highest literary award in the country.
The museum's director denied that any paintings had been stolen.
Negotiators failed to reach an agreement on carbon emissions.
The airline announced that it would cut two thousand jobs.
It was the best of times, it was the worst of times.
Call me whatever you like, said the old sailor, and lit his pipe.
The moonlight lay like silver dust upon the silent water.
She had always known that love would arrive too late for her.
All happy families resemble one another in their silences.
His heart, which had been stone, began slowly to crack.
There was nothing in the drawer but a rusted locket and a lie.
The wolf looked at the shepherd and both of them were afraid.
Memory is a house whose doors open only from the inside.
Once upon a time a poor weaver lived at the edge of a great wood.
I dreamt I was a bird that had forgotten how to sing.
The king wept, for his crown could not buy back a single hour.
Nobody remembered who had planted the crooked tree behind the chapel.
Her laughter rang through the empty corridors like a bell.
Death came to the feast dressed as an honest merchant.
The stars, indifferent as ever, kept their ancient appointments.
Beneath the floorboards something breathed.
To be young was to believe that the road had no end.
The function returns a pointer to the first matching element.
You need to recompile the kernel before installing the driver.
Restart the server and clear the browser cache.
The gradient vanishes when the network is too deep.
Click the icon in the upper right corner to open the settings menu.
This commit fixes a race condition in the scheduler.
Our database crashed because the disk ran out of inodes.
The compiler emits a warning for every unused variable.
Quantum computers exploit superposition and entanglement.
The password must contain at least one special character.
Please merge my pull request before the release branch is cut.
The algorithm runs in logarithmic time on sorted input.
Set the environment variable before launching the container.
Encrypted messages cannot be read without the private key.
The battery drains quickly when background apps are enabled.
A pixel on this screen measures less than fifty micrometres.
Loop unrolling trades code size for execution speed.
The firmware update bricked half of the routers.
lol that was hilarious, I can't stop laughing
Hey, what's up? Haven't heard from you in ages!
Sorry, my bad, I totally forgot about that thing.
OMG did you see what she posted last night?
Dude, this game is so addictive, I played it until four.
Thanks a million, you're an absolute lifesaver!
I'm gonna grab some pizza, you want anything?
No worries, we can figure it out later.
Can't talk right now, text me instead.
Honestly, I have no idea what he's talking about.
That's so weird, it never happened to me before.
Wish me luck, I'm proposing to her tonight!
How do you feel about the whole situation?
Guess who just got promoted!
Let's agree to disagree.
Whatever, I don't even care anymore.
Photosynthesis converts sunlight into chemical energy.
The Roman Empire collapsed in the fifth century.
Water consists of two hydrogen atoms and one oxygen atom.
Prime numbers are divisible only by one and themselves.
The heart pumps blood through arteries and veins.
Whales communicate over enormous distances by song.
Continental plates drift a few centimetres per year.
The philosopher argued that free will is an illusion.
Supply and demand determine the price of a commodity.
Bacteria can become resistant to antibiotics.
The pyramid was built by thousands of labourers over two decades.
Her thesis examines the grammar of medieval charters.
A triangle with three equal sides is called equilateral.
Glaciers carved these cliffs during the last ice age.
The soprano's voice filled the opera house with sorrow.
Whisk the eggs with sugar until the mixture is pale and fluffy.
Preheat the oven and grease a shallow baking tin.
Chop the onions finely and fry them in olive oil.
Marinate the lamb overnight in yoghurt and mint.
She knitted mittens for every grandchild.
The dog buried its bone beneath the rose bushes.
My cat sleeps on the keyboard whenever I try to work.
The orchestra tuned their instruments in the dark.
He swims forty lengths before breakfast.
Yoga relaxes both the muscles and the mind.
The train of thought escaped him before he could speak.
A storm of applause greeted the exhausted pianist.
The bus company was sued by its former shareholders.
Tickets to fame are never sold at the counter.
The weather of the soul changes without any forecast.
Her appointment as ambassador surprised the diplomats.
The price of freedom is eternal vigilance.
Doctors disagree on how best to treat chronic pain.
The station broadcasts jazz and blues around the clock.
Who would have thought that silence could be so loud?
Every cloud has a silver lining, as my grandmother used to claim.
The captain ordered his men to abandon the sinking vessel.
We hold these truths to be self-evident.
Silence!
Nonsense, replied the judge.
Why not?
Congratulations on your engagement, and may you grow old together!
The deceased had left his entire fortune to a parrot.
Although he had been warned repeatedly by everyone who had ever met him, the reckless young explorer set out alone.
The manuscript, which had been hidden in a monastery for six centuries, turned out to be a clever forgery.
""".strip().splitlines()
)
"""English of other kinds: news, literature, technology, chat, science, cooking, and some near the domain's words."""

GIBBERISH = tuple(
    line.strip()
    for line in """
asdf qwer zxcv uiop
Xqzt vrbl mnkp wrtsd fgh.
the the the the the the the
1 2 3 4 5 6 7 8 9
!!! ??? ...
Blorf snadgel ippity wug the toffrel.
fast bus the train of to at a not
Der Zug nach Hamburg fährt um acht Uhr ab.
Le train pour Lyon part à huit heures.
Mañana por la mañana lloverá en todo el país.
Il gatto dorme sul divano rosso.
Поезд отправляется завтра утром.
明日は雨が降るでしょう。
http://example.org/index.html?id=42
""".strip().splitlines()
)
"""Not English at all."""
