"""Nouns with gender, plural and, for places, prepositions. A line: English|German with article|plural|more.

More: ``w`` a weak masculine (den Kunden), ``=feet`` an irregular English plural, ``at an`` a place's English
and German preposition for being there. Plural ``-`` means that there is none.
"""

from __future__ import annotations

from typing import NamedTuple

from seqlib.problems.bulletin.german import GermanNoun, german_noun


class Noun(NamedTuple):
    """A noun in both languages. ``place`` is (English at/in/on, German in/an)."""

    en: str
    en_plural: str
    de: GermanNoun
    kind: str
    place: tuple[str, str]


_TABLE = {
    "vehicle": """train|der Zug|Züge;bus|der Bus|Busse;tram|die Straßenbahn|Straßenbahnen;
        ferry|die Fähre|Fähren;night train|der Nachtzug|Nachtzüge;ship|das Schiff|Schiffe;
        boat|das Boot|Boote;cable car|die Seilbahn|Seilbahnen;coach|der Reisebus|Reisebusse""",
    "person": """doctor|der Arzt|Ärzte;driver|der Fahrer|Fahrer;customer|der Kunde|Kunden|w;
        guest|der Gast|Gäste;child|das Kind|Kinder|=children;woman|die Frau|Frauen|=women;
        man|der Mann|Männer|=men;boy|der Junge|Jungen|w;secretary|die Sekretärin|Sekretärinnen""",
    "relative": """brother|der Bruder|Brüder;sister|die Schwester|Schwestern;mother|die Mutter|Mütter;
        father|der Vater|Väter;daughter|die Tochter|Töchter;son|der Sohn|Söhne;
        grandmother|die Großmutter|Großmütter;grandfather|der Großvater|Großväter;aunt|die Tante|Tanten""",
    "session": """meeting|die Besprechung|Besprechungen;appointment|der Termin|Termine;
        course|der Kurs|Kurse;exam|die Prüfung|Prüfungen;lecture|die Vorlesung|Vorlesungen;
        interview|das Interview|Interviews;conference|die Konferenz|Konferenzen;
        seminar|das Seminar|Seminare""",
    "event": """concert|das Konzert|Konzerte;party|die Party|Partys;film|der Film|Filme;
        talk|der Vortrag|Vorträge;game|das Spiel|Spiele;wedding|die Hochzeit|Hochzeiten;
        exhibition|die Ausstellung|Ausstellungen;festival|das Fest|Feste;excursion|der Ausflug|Ausflüge""",
    "site": """station|der Bahnhof|Bahnhöfe|at an;main station|der Hauptbahnhof|-|at an;
        airport|der Flughafen|Flughäfen|at an;harbour|der Hafen|Häfen|at an;
        bus stop|die Bushaltestelle|Bushaltestellen|at an;town hall|das Rathaus|Rathäuser|at an;
        entrance|der Eingang|Eingänge|at an;lake|der See|Seen|at an;
        bridge|die Brücke|Brücken|at an""",
    "shop": """museum|das Museum|Museen|in in;cinema|das Kino|Kinos|in in;
        hotel|das Hotel|Hotels|in in;library|die Bibliothek|Bibliotheken|in in;
        school|die Schule|Schulen|in in;church|die Kirche|Kirchen|in in;park|der Park|Parks|in in;
        supermarket|der Supermarkt|Supermärkte|in in;pharmacy|die Apotheke|Apotheken|in in""",
    "area": """village|das Dorf|Dörfer|in in;town|die Stadt|Städte|in in;
        forest|der Wald|Wälder|in in;valley|das Tal|Täler|in in;region|die Region|Regionen|in in;
        garden|der Garten|Gärten|in in""",
    "seaside": """coast|die Küste|Küsten|on an;beach|der Strand|Strände|on an""",
    "way": """road|die Straße|Straßen;motorway|die Autobahn|Autobahnen;path|der Weg|Wege;
        platform|der Bahnsteig|Bahnsteige;railway line|die Bahnstrecke|Bahnstrecken;
        footbridge|der Steg|Stege""",
    "facility": """lift|der Aufzug|Aufzüge;escalator|die Rolltreppe|Rolltreppen;
        traffic light|die Ampel|Ampeln;ticket machine|der Fahrkartenautomat|Fahrkartenautomaten|w;
        toilet|die Toilette|Toiletten""",
    "clothing": """jacket|die Jacke|Jacken;coat|der Mantel|Mäntel;shirt|das Hemd|Hemden;
        dress|das Kleid|Kleider;skirt|der Rock|Röcke;hat|der Hut|Hüte;shoe|der Schuh|Schuhe;
        pullover|der Pullover|Pullover;cap|die Mütze|Mützen""",
    "luggage": """umbrella|der Regenschirm|Regenschirme;bag|die Tasche|Taschen;suitcase|der Koffer|Koffer;
        backpack|der Rucksack|Rucksäcke;parcel|das Paket|Pakete;box|die Kiste|Kisten;
        basket|der Korb|Körbe""",
    "paper": """ticket|die Fahrkarte|Fahrkarten;day ticket|die Tageskarte|Tageskarten;
        monthly ticket|die Monatskarte|Monatskarten;passport|der Pass|Pässe;bill|die Rechnung|Rechnungen;
        document|das Dokument|Dokumente;timetable|der Fahrplan|Fahrpläne;
        invitation|die Einladung|Einladungen""",
    "form": """form|das Formular|Formulare;application|der Antrag|Anträge;letter|der Brief|Briefe;
        contract|der Vertrag|Verträge""",
    "reading": """book|das Buch|Bücher;newspaper|die Zeitung|Zeitungen;
        magazine|die Zeitschrift|Zeitschriften;map|der Stadtplan|Stadtpläne;
        postcard|die Postkarte|Postkarten;novel|der Roman|Romane""",
    "thing": """key|der Schlüssel|Schlüssel;bottle|die Flasche|Flaschen;cup|die Tasse|Tassen;
        glass|das Glas|Gläser;plate|der Teller|Teller;knife|das Messer|Messer|=knives;
        flower|die Blume|Blumen;gift|das Geschenk|Geschenke;blanket|die Decke|Decken""",
    "item": """bicycle|das Fahrrad|Fahrräder;clock|die Uhr|Uhren;picture|das Bild|Bilder;
        mirror|der Spiegel|Spiegel;carpet|der Teppich|Teppiche""",
    "device": """lamp|die Lampe|Lampen;camera|die Kamera|Kameras;radio|das Radio|Radios;
        computer|der Computer|Computer;television|der Fernseher|Fernseher;heater|die Heizung|Heizungen;
        printer|der Drucker|Drucker;washing machine|die Waschmaschine|Waschmaschinen""",
    "furniture": """table|der Tisch|Tische;chair|der Stuhl|Stühle;bed|das Bett|Betten;
        shelf|das Regal|Regale|=shelves;cupboard|der Schrank|Schränke;sofa|das Sofa|Sofas;
        desk|der Schreibtisch|Schreibtische""",
    "food": """apple|der Apfel|Äpfel;pear|die Birne|Birnen;banana|die Banane|Bananen;
        tomato|die Tomate|Tomaten|=tomatoes;potato|die Kartoffel|Kartoffeln|=potatoes;egg|das Ei|Eier;
        cake|der Kuchen|Kuchen;roll|das Brötchen|Brötchen;onion|die Zwiebel|Zwiebeln""",
    "groceries": """bread|das Brot|-;butter|die Butter|-;cheese|der Käse|-;meat|das Fleisch|-;
        fish|der Fisch|-;rice|der Reis|-;sugar|der Zucker|-;chocolate|die Schokolade|-;
        jam|die Marmelade|-""",
    "drink": """milk|die Milch|-;water|das Wasser|-;coffee|der Kaffee|-;tea|der Tee|-;juice|der Saft|-;
        wine|der Wein|-;beer|das Bier|-""",
    "weather": """storm|der Sturm|Stürme;thunderstorm|das Gewitter|Gewitter;shower|der Schauer|Schauer;
        heatwave|die Hitzewelle|Hitzewellen""",
    "sky": """rain|der Regen|-;snow|der Schnee|-;fog|der Nebel|-;wind|der Wind|-;frost|der Frost|-""",
    "opening": """door|die Tür|Türen;window|das Fenster|Fenster;gate|das Tor|Tore""",
}


def _english_plural(word: str) -> str:
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"


def _parse(kind: str, line: str) -> Noun:
    english, german, plural, *more = line.strip().split("|")
    english_plural = _english_plural(english)
    place = ("", "")
    for extra in more:
        if extra.startswith("="):
            english_plural = extra[1:]
        elif extra != "w":
            at, being = extra.split()
            place = (at, being)
    return Noun(english, english_plural, german_noun(german, plural, "w" in more), kind, place)


NOUNS: dict[str, tuple[Noun, ...]] = {
    kind: tuple(_parse(kind, line) for line in lines.split(";")) for kind, lines in _TABLE.items()
}
"""All nouns by kind."""


def noun(english: str) -> Noun:
    """The noun of that English name. Raises KeyError when there is none."""
    for group in NOUNS.values():
        for entry in group:
            if entry.en == english:
                return entry
    raise KeyError(english)
