"""The datasets of the paper: their classes, where they come from, and what tells ours apart.

Both number their images so that the number says the class. The digests stand for the files that
this project's numbers were made with; the files themselves are not ours to hand out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["DATASETS", "Dataset"]


@dataclass(frozen=True)
class Dataset:
    """A set of images in classes, `NUMBER.jpg` each.

    Attributes:
        name: in commands.
        source: where people get it.
        classes: number // span -> name of the class, in the order of the numbers.
        span: numbers that a class may use; it does use the first IN_A_CLASS of them.
        absent: numbers of these that the set does not have.
        digests: by class, the SHA-256 of its lines "HASH  CLASS/NUMBER.jpg\\n", sorted, where HASH
            is the SHA-256 of the file in hexadecimal.
    """

    name: str
    source: str
    classes: Mapping[int, str]
    span: int
    absent: frozenset[int]
    digests: Mapping[str, str]

    def class_of(self, number: int) -> str | None:
        """The class that an image belongs to by its number; None: to none of the set."""
        return self.classes.get(number // self.span)

    def images(self) -> list[str]:
        """CLASS/NUMBER.jpg of all images, class by class."""
        return [
            f"{label}/{number}.jpg"
            for place, label in self.classes.items()
            for number in range(place * self.span, place * self.span + IN_A_CLASS)
            if number not in self.absent
        ]


IN_A_CLASS = 100

_COREL1K = {
    "africans": "77e9a21a8e001cf0603629b9747738969cf39e62cb7026618d80bcd8d1445901",
    "beaches": "432e59fa4d2972f9e06a4e900485b6a1611bf39a406361cce1758641535c41ee",
    "buildings": "61010b4a98e9b94d4f93d96fb82d46261f1f148dbd63a221b3d5ed5bd7c5b779",
    "buses": "0942c89d603c7415dad8ce88d3fea2d1c5dc18ac82de59b878979d0c90499fc6",
    "dinosaurs": "411f4bb2dab6769aa70ebee10c27128a3505c8c860acf4b3060e2d57bd6b41db",
    "elephants": "b5becf5b49490860b22cf095364cf696e9044690d26441244b2975ab2e1b3e11",
    "flowers": "1bd037b3c49b86358b38178b8dfe0a3c58e107fd8deaa485d96cf0a553566685",
    "horses": "504f0166a7ced79ffd8fdac8c71df9f46f2266d3e6eb45f60bf904c64c620a30",
    "mountains": "5d69ee400f60901abb02e87e80fbd26b1c2f1ea2842e1e25981b0be66c3ec998",
    "food": "759c18598c4ce4fa196169ace5ab55df2f4a12f1302031436f8be7efead803e7",
}
_COREL5K = {
    "1": "007a76601c92139a53d4a7e9f15045456e582b7e10ca79e65aa3bdd843771eb6",
    "10": "97afb7fbfc72e788d56fb1868b7147ff083766149f85be7a6f1c3f185263bcb9",
    "12": "3c228e37d89082186348a92a2b9e90215a0b1a98d9d1e757fc8d6501813b8a55",
    "13": "9fe33acc2e0b4a4dfe2d4e4201528ee7a23adf41084487cae4f5edefe62d4d20",
    "17": "973e45710d00b467efdab9b6c4344834de0b2b76fee0657e7a68543cfb659cd0",
    "20": "b053e0a7cd109e7985810e716b112e7912efb2fd7ce67e3721126cd7b7489af7",
    "21": "77a151441852534782827140c38d42abfed03e5e11d12d08180b1f23a0289232",
    "22": "a55db50fa07be9cc9f08e1300510609bd93afb02fd6dd30f59ff6024031b8177",
    "33": "802ecd4b598f6a95f26fa7a4ff49ab8b691cd4451b2b3cfdad2d861cda22b77d",
    "34": "0f34b340d92a906fa316aeb88b3490b25521ffad77c26e3b342ba001afaf2cea",
    "41": "fd090370393b0a4e1b5d28d12bdf0483de50bcf0f8ee8167266f9867c7af81ff",
    "46": "441a57e0ff9f5356c853c318b88d185f4c97158c6dcec2fa415f9deef12da92b",
    "100": "88db8f5a5b7d2be70d7fb9cea66a128ed73e3b14add6c4654aeeaea650963d5c",
    "101": "d3038844bc2be47e0f14747c805703d989e214c8231f2814222b3a08ac65842e",
    "102": "f1d256cdba661004fb3a249b0192b45dcd822bac936c0ab198b6d9ce767217ba",
    "103": "c05aff965e041614abb962c565fe3d6e14482674477b5a6f459f9bca6896e998",
    "104": "287cb4c802b604c0b9ef9389b855a15ed7f8cad1218f064e1cffbc0eaaea8d9b",
    "108": "c34640353eaa43892bcd0ad75c0543fe8575e5bfe074c544a9ebe9408d9f47f5",
    "109": "ec0c8db0188dfedeb46c03427a35d4efbeff020028676ddcb8374cc615897b12",
    "113": "3306469f11ed2321444708fb089e25839ba4377a8164a5d7c99c38c4b6b7f610",
    "118": "61aab257c39d41a187c3eea690c7cfbe47c5aae8f3b97045ddd1fd760eb8a79b",
    "119": "1ebc998dee2c309370810285d23fdf5ae4cd2416271c368d431a63ef615e735b",
    "120": "1255c5b1c7b291c6c38e4188e68ad6d633a9065f57dbdc14d061825d6c3d50a5",
    "121": "a51616bfdb2d92f5f3110ee31b5f16ed269d47ea9596fe6857a2aa35acdb0962",
    "122": "0f5ba12e0fa5c3fa18ee367761cbf0b18889143f96c760f394e831b107519c4b",
    "130": "d2c5fa22023b3479d6ba4d20262e3a4e400aa8e1e0724a25d3f3baf1176ff6d3",
    "131": "9f94a8abc1cd31ee1566c0d4a1e9ca8be9a3f57fad28b32c28a7ebbaa3468c3f",
    "140": "c6b95662b970b5af4ea0adb7583f762e06613a1bca8475596cc6cebb6d3ed2fe",
    "142": "86df32b0dd8736a1043e4d48f6ff5bb91346197162a32c0d4fb802f97a4f6211",
    "143": "a1c88123dcc4e1d6ba9511c47f65062a01243de0d6a50a348a2113c49ce67714",
    "144": "b0f75f09dc34a84c192425c1972e00ab8b90ee6d57022bfd2768990f8b0ebcde",
    "147": "62b059665a33bd2a798a8a756d0143aaf715519c4898a33fdda9bc0911d31cee",
    "148": "13b994d6a135e5ab084b2d6f52c37b3698e31f1cc60d0ca9a240ecb644a200ec",
    "152": "ed9300a76b2491dcef62d2fa3e47e76ecc4dadf314de6a4e89587167f2654d2b",
    "153": "919c90ac8698a42610c3eda7b4fb8b1f5b5df2c83ecd7931050be00e7dd18083",
    "161": "50595e45a9ecf42354e9f0c9d9e3554f168907fb5c539dba0a04632e6bccb25b",
    "163": "0f73309d441b09c579f981a4796d96727aa0f7f0a4bff9b96b5a9c62a8c0c186",
    "171": "d16e508b09432926bc3a1f1fa1dc3d07a22a45878381c23b47e7bf7269961707",
    "173": "d3186089cf5970e4d4b34a75849cd33dc1c31841c4747decc7c7d533247061f9",
    "174": "b32fe56e0efc3763cb7660a77adb22b271c565edcdbc3b4a06fa914d97a072d6",
    "182": "7c0bb74238cbab5a85e5d7aa6c5f9bd6c9f7bfbbe34acfa7efa1d46d0be2278c",
    "183": "d29996903c51319b1af3f7e0b66731932c1fcb35b48d8bac3dc9d963a54cf0fa",
    "187": "a76228863b246d01f9326752a9897b90b2d9723c5469d2f5ebac791315fba5d3",
    "189": "45a58591483f7511b5e38b933abf1eb044e2452c9d2bf913b1ba74c8bd379225",
    "201": "636384f5def9d9c2efbeb64fde4b5f9c7e8e529dd3001e182fdb67cba7551663",
    "231": "2c55f0d4b4880ecfe4b2eab972d763b5cfac8714fb537556bb834af944636e18",
    "276": "adfddb3029f720159d20efbef7b77266181c170e2aa727866b23b1581053ad96",
    "296": "e658495a7f336b13638f0033ee5c92cd15395f7c5ddc3d4309bd1a1f22894995",
    "335": "406893b11a6ae17bf16dfb989b991c6fd953ffa9e05f74c81a8dc4fc87c94343",
    "384": "a238e880ca2c5849f25df2a4132d530c8899c2e0d8b8b13a6c0cb7b18d514dc0",
}

DATASETS: Mapping[str, Dataset] = MappingProxyType(
    {
        "corel1k": Dataset(
            name="corel1k",
            source="test1.tar of James Z. Wang, http://wang.ist.psu.edu/docs/related/",
            classes=MappingProxyType(dict(enumerate(_COREL1K))),
            span=100,
            absent=frozenset(),
            digests=MappingProxyType(_COREL1K),
        ),
        "corel5k": Dataset(
            name="corel5k",
            source="50 CDs of Corel Stock Photos, as chosen by Duygulu et al., ECCV 2002",
            classes=MappingProxyType({int(label): label for label in _COREL5K}),
            span=1000,
            absent=frozenset({121060}),
            digests=MappingProxyType(_COREL5K),
        ),
    }
)
"""By name."""
