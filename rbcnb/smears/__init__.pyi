# The public names of this folder, each loaded when it is first used.
from .chula import chula_smears as chula_smears
from .chula import chula_truth as chula_truth
from .chula import fetch_chula as fetch_chula
from .images import Smear as Smear
from .images import SmearError as SmearError
from .images import read_image as read_image
from .sources import folder_smears as folder_smears
from .sources import load_smears as load_smears
from .sources import synthetic_smears as synthetic_smears
