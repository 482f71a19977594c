"""Letters of other scripts that look like Latin letters.

LOOKALIKES are the single letters of the Cyrillic, Greek, Armenian, Cherokee and extended Latin scripts that Unicode's
table of confusables (UTS #39, confusables.txt) gives a Latin letter's shape. Full-width and mathematical letters are
not in it: Unicode's compatibility form (NFKC) is the Latin letter itself.
"""

# A letter, then those that look like it.
_ALIKE = (
    "AΑАᎪ BΒВᏴ CСᏟ DᎠ EΕЕᎬ FϜ GԌᏀ HΗНᎻ IΙІӀ JͿЈᎫ KΚКᏦ LᏞ MΜϺМᎷ NΝ OΟОՕ PΡРᏢ RƦᎡ SЅՏᏚ TΤТᎢ "
    "UՍ VѴᏙ WԜᎳ XΧХ YΥУҮᎩ ZΖᏃ aɑαа bƄЬь cсᴄ dԁ eеҽ fքẝ gɡց hһհ iıɩɪιі jϳј lƖǀӏ nոռ oοσоօᴏ "
    "pρр qԛգ rгᴦ sƽѕ uʋυսᴜ vνѵᴠ wɯѡԝ xх yɣʏγуү zᴢ"
)
LOOKALIKES = {word[0]: word[1:] for word in _ALIKE.split()}
INVISIBLE = "[\u00ad\u200b-\u200f\u2060\ufeff]"  # soft hyphen, zero-width spaces and joiners, marks of direction
