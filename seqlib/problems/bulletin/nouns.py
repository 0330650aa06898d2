"""Nouns with gender, plural and, for places, prepositions. A line: English|German with article|plural|more.

More: ``w`` a weak masculine (den Kunden), ``=feet`` an irregular English plural, ``at an zu`` a place's English
preposition, German one for being there and German one for going there. Plural ``-`` means that there is none.
"""

from __future__ import annotations

from typing import NamedTuple

from seqlib.problems.bulletin.german import GermanNoun, german_noun


class Noun(NamedTuple):
    """A noun in both languages. ``place`` is (English at/in/on, German for being there, German for going there)."""

    en: str
    en_plural: str
    de: GermanNoun
    kind: str
    place: tuple[str, str, str]


_TABLE = {
    "vehicle": """train|der Zug|Züge;bus|der Bus|Busse;tram|die Straßenbahn|Straßenbahnen;ferry|die Fähre|Fähren;
        night train|der Nachtzug|Nachtzüge;express train|der Schnellzug|Schnellzüge;ship|das Schiff|Schiffe;
        airport bus|der Flughafenbus|Flughafenbusse;boat|das Boot|Boote;school bus|der Schulbus|Schulbusse;
        replacement bus|der Ersatzbus|Ersatzbusse;cable car|die Seilbahn|Seilbahnen;coach|der Reisebus|Reisebusse;
        regional train|der Regionalzug|Regionalzüge""",
    "person": """doctor|der Arzt|Ärzte;dentist|der Zahnarzt|Zahnärzte;driver|der Fahrer|Fahrer;
        teacher|der Lehrer|Lehrer;customer|der Kunde|Kunden|w;passenger|der Fahrgast|Fahrgäste;guest|der Gast|Gäste;
        neighbour|der Nachbar|Nachbarn|w;colleague|der Kollege|Kollegen|w;student|der Student|Studenten|w;
        tourist|der Tourist|Touristen|w;child|das Kind|Kinder|=children;woman|die Frau|Frauen|=women;
        man|der Mann|Männer|=men;boy|der Junge|Jungen|w;girl|das Mädchen|Mädchen;boss|der Chef|Chefs;
        baker|der Bäcker|Bäcker;friend|der Freund|Freunde;conductor|der Schaffner|Schaffner;
        mechanic|der Mechaniker|Mechaniker;lawyer|der Anwalt|Anwälte;secretary|die Sekretärin|Sekretärinnen;
        visitor|der Besucher|Besucher;engineer|der Ingenieur|Ingenieure;cook|der Koch|Köche;
        waiter|der Kellner|Kellner;musician|der Musiker|Musiker;farmer|der Bauer|Bauern|w;
        policeman|der Polizist|Polizisten|w|=policemen;family|die Familie|Familien;director|der Direktor|Direktoren""",
    "relative": """brother|der Bruder|Brüder;sister|die Schwester|Schwestern;mother|die Mutter|Mütter;
        father|der Vater|Väter;daughter|die Tochter|Töchter;son|der Sohn|Söhne;
        grandmother|die Großmutter|Großmütter;grandfather|der Großvater|Großväter;
        uncle|der Onkel|Onkel;aunt|die Tante|Tanten""",
    "session": """meeting|die Besprechung|Besprechungen;appointment|der Termin|Termine;course|der Kurs|Kurse;
        exam|die Prüfung|Prüfungen;lecture|die Vorlesung|Vorlesungen;interview|das Interview|Interviews;
        conference|die Konferenz|Konferenzen;lesson|die Unterrichtsstunde|Unterrichtsstunden;
        rehearsal|die Probe|Proben;language course|der Sprachkurs|Sprachkurse;seminar|das Seminar|Seminare""",
    "event": """concert|das Konzert|Konzerte;party|die Party|Partys;film|der Film|Filme;talk|der Vortrag|Vorträge;
        game|das Spiel|Spiele;wedding|die Hochzeit|Hochzeiten;exhibition|die Ausstellung|Ausstellungen;
        guided tour|die Führung|Führungen;festival|das Fest|Feste;excursion|der Ausflug|Ausflüge;
        performance|die Aufführung|Aufführungen;race|das Rennen|Rennen;auction|die Auktion|Auktionen;
        dinner|das Abendessen|Abendessen;lunch|das Mittagessen|Mittagessen|=lunches""",
    "site": """station|der Bahnhof|Bahnhöfe|at an zu;main station|der Hauptbahnhof|-|at an zu;
        airport|der Flughafen|Flughäfen|at an zu;harbour|der Hafen|Häfen|at an zu;
        bus stop|die Bushaltestelle|Bushaltestellen|at an zu;town hall|das Rathaus|Rathäuser|at an zu;
        entrance|der Eingang|Eingänge|at an zu;exit|der Ausgang|Ausgänge|at an zu;lake|der See|Seen|at an zu;
        river|der Fluss|Flüsse|at an zu;border|die Grenze|Grenzen|at an zu;bridge|die Brücke|Brücken|at an zu;
        market|der Markt|Märkte|at auf auf;crossroads|die Kreuzung|-|at an zu;
        ticket office|der Schalter|Schalter|at an zu;
        car park|der Parkplatz|Parkplätze|in auf zu;square|der Platz|Plätze|on auf zu""",
    "shop": """museum|das Museum|Museen|in in in;cinema|das Kino|Kinos|in in in;theatre|das Theater|Theater|in in in;
        restaurant|das Restaurant|Restaurants|in in in;café|das Café|Cafés|in in in;hotel|das Hotel|Hotels|in in in;
        hospital|das Krankenhaus|Krankenhäuser|in in in;office|das Büro|Büros|in in in;
        library|die Bibliothek|Bibliotheken|in in in;school|die Schule|Schulen|in in in;
        church|die Kirche|Kirchen|in in in;park|der Park|Parks|in in in;zoo|der Zoo|Zoos|in in in;
        supermarket|der Supermarkt|Supermärkte|in in in;bakery|die Bäckerei|Bäckereien|in in zu;
        pharmacy|die Apotheke|Apotheken|in in zu;bookshop|die Buchhandlung|Buchhandlungen|in in zu;
        shop|das Geschäft|Geschäfte|in in in;department store|das Kaufhaus|Kaufhäuser|in in in;
        swimming pool|das Schwimmbad|Schwimmbäder|in in in;gallery|die Galerie|Galerien|in in in;
        bank|die Bank|Banken|in in zu;post office|die Post|-|at bei zu""",
    "area": """village|das Dorf|Dörfer|in in in;town|die Stadt|Städte|in in in;old town|die Altstadt|-|in in in;
        town centre|das Stadtzentrum|-|in in in;forest|der Wald|Wälder|in in in;valley|das Tal|Täler|in in in;
        region|die Region|Regionen|in in in;
        garden|der Garten|Gärten|in in in""",
    "seaside": """coast|die Küste|Küsten|on an an;island|die Insel|Inseln|on auf auf;
        beach|der Strand|Strände|on an an""",
    "way": """road|die Straße|Straßen;motorway|die Autobahn|Autobahnen;path|der Weg|Wege;
        platform|der Bahnsteig|Bahnsteige;railway line|die Bahnstrecke|Bahnstrecken;
        runway|die Landebahn|Landebahnen;footbridge|der Steg|Stege""",
    "facility": """lift|der Aufzug|Aufzüge;escalator|die Rolltreppe|Rolltreppen;traffic light|die Ampel|Ampeln;
        ticket machine|der Fahrkartenautomat|Fahrkartenautomaten|w;toilet|die Toilette|Toiletten""",
    "clothing": """jacket|die Jacke|Jacken;coat|der Mantel|Mäntel;shirt|das Hemd|Hemden;dress|das Kleid|Kleider;
        skirt|der Rock|Röcke;hat|der Hut|Hüte;scarf|der Schal|Schals|=scarves;shoe|der Schuh|Schuhe;
        pullover|der Pullover|Pullover;glove|der Handschuh|Handschuhe;suit|der Anzug|Anzüge;cap|die Mütze|Mützen""",
    "luggage": """umbrella|der Regenschirm|Regenschirme;bag|die Tasche|Taschen;suitcase|der Koffer|Koffer;
        backpack|der Rucksack|Rucksäcke;parcel|das Paket|Pakete;box|die Kiste|Kisten;basket|der Korb|Körbe""",
    "paper": """ticket|die Fahrkarte|Fahrkarten;day ticket|die Tageskarte|Tageskarten;
        monthly ticket|die Monatskarte|Monatskarten;passport|der Pass|Pässe;bill|die Rechnung|Rechnungen;
        document|das Dokument|Dokumente;timetable|der Fahrplan|Fahrpläne;invitation|die Einladung|Einladungen""",
    "form": """form|das Formular|Formulare;application|der Antrag|Anträge;letter|der Brief|Briefe;
        contract|der Vertrag|Verträge;questionnaire|der Fragebogen|Fragebögen;
        order form|der Bestellschein|Bestellscheine""",
    "reading": """book|das Buch|Bücher;newspaper|die Zeitung|Zeitungen;magazine|die Zeitschrift|Zeitschriften;
        map|der Stadtplan|Stadtpläne;postcard|die Postkarte|Postkarten;novel|der Roman|Romane""",
    "thing": """key|der Schlüssel|Schlüssel;bottle|die Flasche|Flaschen;cup|die Tasse|Tassen;glass|das Glas|Gläser;
        plate|der Teller|Teller;knife|das Messer|Messer|=knives;flower|die Blume|Blumen;
        gift|das Geschenk|Geschenke;blanket|die Decke|Decken;towel|das Handtuch|Handtücher;pen|der Stift|Stifte;
        doll|die Puppe|Puppen;ball|der Ball|Bälle""",
    "item": """bicycle|das Fahrrad|Fahrräder;clock|die Uhr|Uhren;picture|das Bild|Bilder;mirror|der Spiegel|Spiegel;
        carpet|der Teppich|Teppiche""",
    "device": """lamp|die Lampe|Lampen;camera|die Kamera|Kameras;radio|das Radio|Radios;
        computer|der Computer|Computer;television|der Fernseher|Fernseher;heater|die Heizung|Heizungen;
        printer|der Drucker|Drucker;washing machine|die Waschmaschine|Waschmaschinen""",
    "furniture": """table|der Tisch|Tische;chair|der Stuhl|Stühle;bed|das Bett|Betten;shelf|das Regal|Regale|=shelves;
        cupboard|der Schrank|Schränke;sofa|das Sofa|Sofas;desk|der Schreibtisch|Schreibtische""",
    "food": """apple|der Apfel|Äpfel;pear|die Birne|Birnen;orange|die Orange|Orangen;banana|die Banane|Bananen;
        tomato|die Tomate|Tomaten|=tomatoes;potato|die Kartoffel|Kartoffeln|=potatoes;carrot|die Karotte|Karotten;
        egg|das Ei|Eier;cake|der Kuchen|Kuchen;roll|das Brötchen|Brötchen;cherry|die Kirsche|Kirschen;
        onion|die Zwiebel|Zwiebeln;lemon|die Zitrone|Zitronen;mushroom|der Pilz|Pilze""",
    "groceries": """bread|das Brot|-;butter|die Butter|-;cheese|der Käse|-;meat|das Fleisch|-;fish|der Fisch|-;
        rice|der Reis|-;honey|der Honig|-;sugar|der Zucker|-;chocolate|die Schokolade|-;ham|der Schinken|-;
        jam|die Marmelade|-;flour|das Mehl|-;fruit|das Obst|-""",
    "drink": """milk|die Milch|-;water|das Wasser|-;coffee|der Kaffee|-;tea|der Tee|-;juice|der Saft|-;wine|der Wein|-;
        beer|das Bier|-""",
    "weather": """storm|der Sturm|Stürme;thunderstorm|das Gewitter|Gewitter;shower|der Schauer|Schauer;
        heatwave|die Hitzewelle|Hitzewellen;cold front|die Kaltfront|Kaltfronten""",
    "sky": """rain|der Regen|-;snow|der Schnee|-;fog|der Nebel|-;wind|der Wind|-;frost|der Frost|-;
        hail|der Hagel|-;drizzle|der Nieselregen|-""",
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
    place = ("", "", "")
    for extra in more:
        if extra.startswith("="):
            english_plural = extra[1:]
        elif extra != "w":
            at, being, going = extra.split()
            place = (at, being, going)
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
