# The public names of this folder, each loaded when it is first used.
from .count import count_files as count_files
from .differential import differential_count as differential_count
from .model_file import Model as Model, ModelCard as ModelCard, load_model as load_model, save_model as save_model
