"""A small domain for a translator from English to Portuguese: sailing, as Brazilian sailors say it. Writes `train.tsv`,
`dev.tsv` and `heldout.tsv`.

Held-out sentences have frames, names, boats and places that no sentence for training has; the terms are the same.
"""

import random
import sys
from pathlib import Path

TERMS = """mainsail|vela grande|a
jib|bujarrona|a
spinnaker|balão|o
mainsheet|escota da grande|a
jib sheet|escota da bujarrona|a
halyard|adriça|a
topping lift|amantilho|o
boom|retranca|a
mast|mastro|o
forestay|estai de proa|o
backstay|estai de popa|o
shroud|brandal|o
cleat|cunho|o
fairlead|guia-cabos|o
block|moitão|o
shackle|manilha|a
winch|catraca|a
winch handle|manivela da catraca|a
tiller|cana do leme|a
rudder|leme|o
keel|quilha|a
centreboard|patilhão|o
hull|casco|o
bilge pump|bomba de porão|a
hatch|gaiuta|a
deck|convés|o
cockpit|poço|o
bow line|lançante de proa|o
stern line|lançante de popa|o
spring line|regeira|a
fender|defensa|a
anchor|âncora|a
anchor chain|amarra|a
windlass|guincho|o
painter|boça|a
dinghy|bote|o
buoy|boia|a
batten|régua|a
burgee|galhardete|o
bunk|beliche|o
life raft|balsa salva-vidas|a
lead line|prumo|o
chart|carta náutica|a
oar|remo|o
rowlock|toleteira|a
furler|enrolador|o
boat hook|croque|o
log|odômetro|o"""

TRAIN = """Check the {n} before you leave the harbour.|Verifique {o} {n} antes de sair do porto.
The {n} is damaged and must be replaced.|{O} {n} está danificad{e} e precisa ser substituíd{e}.
Do not stand near the {n} while we tack.|Não fique perto {do} {n} enquanto viramos por davante.
Rinse the {n} with fresh water after sailing.|Lave {o} {n} com água doce depois de velejar.
Who has stowed the {n}?|Quem arrumou {o} {n}?
{name} greased the {n} yesterday.|{name} lubrificou {o} {n} ontem.
We need a new {n} before {month}.|Precisamos de {um} {n} nov{e} antes de {mês}.
The {n} costs {number} euros at the chandlery.|{O} {n} custa {number} euros na loja náutica.
There is a crack in the {n} on the port side.|Há uma fissura {no} {n} a bombordo.
Secure the {n} on the starboard side.|Prenda {o} {n} a boreste.
Please hand me the {n}.|Por favor, passe-me {o} {n}.
The skipper is looking at the {n}.|O comandante está olhando para {o} {n}.
The crew inspects the {n} every {number} weeks.|A tripulação inspeciona {o} {n} a cada {number} semanas.
Without the {n} we cannot gybe.|Sem {o} {n} não podemos dar o jaibe.
The {n} broke in force {force} winds.|{O} {n} quebrou com vento de força {force}.
Keep your hands away from the {n}.|Mantenha as mãos afastadas {do} {n}.
The {n} of the yacht {boat} was made in {place}.|{O} {n} do iate {boat} foi feit{e} em {place}.
Where is the spare {n}?|Onde está {o} {n} sobressalente?
Tie the line to the {n} with a bowline.|Amarre o cabo {ao} {n} com um lais de guia.
After the gybe, look at the {n}.|Depois do jaibe, olhe para {o} {n}.
{name} will repair the {n} in {place}.|{name} vai consertar {o} {n} em {place}.
The {n} is fouled; bear away at once.|{O} {n} está enrascad{e}; arribe imediatamente.
We lost the {n} off {place}.|Perdemos {o} {n} ao largo de {place}.
Mark the {n} with red tape.|Marque {o} {n} com fita vermelha."""

HELDOUT = """Is the {n} damaged?|{O} {n} está danificad{e}?
{name} lost the {n} near {place}.|{name} perdeu {o} {n} perto de {place}.
Replace the {n} on the port side before we tack.|Substitua {o} {n} a bombordo antes de virarmos por davante.
A new {n} costs more than {number} euros.|{Um} {n} nov{e} custa mais de {number} euros.
The crew of the {boat} is repairing the {n}.|A tripulação do {boat} está consertando {o} {n}.
Please put the {n} on the starboard side.|Ponha {o} {n} a boreste, por favor.
Look at the {n} after we gybe.|Olhe para {o} {n} depois de darmos o jaibe.
Where did {name} buy the {n}?|Onde {name} comprou {o} {n}?"""

FILLERS = {
    "train": ("Marta Rui Helena Duarte Inês Tomás", "Albatroz Aurora Vendaval", "Santos Recife Ilhabela Natal Vitória"),
    "heldout": ("Carla Nuno Beatriz Henrique", "Gaivota Tritão", "Paraty Salvador Fortaleza Angra"),
}
MONTHS = ("March|março", "May|maio", "August|agosto", "October|outubro")


def sentences(frames: str, kind: str, count: int, draw: random.Random) -> list[tuple[str, str]]:
    """`count` different pairs of each term."""
    names, boats, places = (words.split() for words in FILLERS[kind])
    found: list[tuple[str, str]] = []
    for english, portuguese, article in (line.split("|") for line in TERMS.splitlines()):
        a = article == "a"
        forms = {"o": article, "O": article.upper(), "e": article, "do": "da" if a else "do", "no": "na" if a else "no"}
        forms |= {"ao": "à" if a else "ao", "um": "uma" if a else "um", "Um": "Uma" if a else "Um"}
        for frame in draw.sample(frames.splitlines(), count):
            month, mês = draw.choice(MONTHS).split("|")
            each = {"name": draw.choice(names), "boat": draw.choice(boats), "place": draw.choice(places)}
            each |= {"number": draw.randint(2, 90), "force": draw.randint(6, 9), "month": month, "mês": mês}
            source, target = frame.split("|")
            found.append((source.format(n=english, **each), target.format(n=portuguese, **forms, **each)))
    draw.shuffle(found)
    return found


def write(folder: Path) -> None:
    """432 pairs to train, 48 for development, 144 held out."""
    draw = random.Random(7)
    train, heldout = sentences(TRAIN, "train", 10, draw), sentences(HELDOUT, "heldout", 3, draw)
    for name, rows in (("train", train[48:]), ("dev", train[:48]), ("heldout", heldout)):
        (folder / f"{name}.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
