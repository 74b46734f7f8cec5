# The public names of this folder, each loaded when it is first used.
from .chula import chula_smears as chula_smears, chula_truth as chula_truth, fetch_chula as fetch_chula
from .images import Smear as Smear, SmearError as SmearError, read_image as read_image
from .sources import folder_smears as folder_smears, load_smears as load_smears, synthetic_smears as synthetic_smears
