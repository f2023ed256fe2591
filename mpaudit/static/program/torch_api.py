"""What the names of torch, NumPy and the training frameworks mean to an audit.

Tables of exact qualified names; where a table is open-ended (optimizers of many packages), a pattern says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache


def _names(pattern: str) -> Callable[[str], bool]:
    """Whether a pattern matches a name. The same names are asked for again and again."""
    search = re.compile(pattern).search
    return lru_cache(maxsize=4096)(lambda name: search(name) is not None)


AUTOCAST = {
    "torch.autocast": "",
    "torch.amp.autocast": "",
    "torch.amp.autocast_mode.autocast": "",
    "torch.cuda.amp.autocast": "cuda",
    "torch.cuda.amp.autocast_mode.autocast": "cuda",
    "torch.cpu.amp.autocast": "cpu",
    "torch.cpu.amp.autocast_mode.autocast": "cpu",
}
"""Autocast classes; the value is the device that a device-specific one fixes."""

GRAD_SCALER = {
    "torch.GradScaler": "",
    "torch.amp.GradScaler": "",
    "torch.amp.grad_scaler.GradScaler": "",
    "torch.cuda.amp.GradScaler": "cuda",
    "torch.cuda.amp.grad_scaler.GradScaler": "cuda",
    "torch.cpu.amp.GradScaler": "cpu",
    "torch.cpu.amp.grad_scaler.GradScaler": "cpu",
    "torch.distributed.fsdp.sharded_grad_scaler.ShardedGradScaler": "sharded",
    "fairscale.optim.ShardedGradScaler": "sharded",
    "fairscale.optim.grad_scaler.ShardedGradScaler": "sharded",
}

DEPRECATED = {
    "torch.cuda.amp.autocast": "torch.amp.autocast('cuda', ...)",
    "torch.cuda.amp.autocast_mode.autocast": "torch.amp.autocast('cuda', ...)",
    "torch.cpu.amp.autocast": "torch.amp.autocast('cpu', ...)",
    "torch.cpu.amp.autocast_mode.autocast": "torch.amp.autocast('cpu', ...)",
    "torch.cuda.amp.GradScaler": "torch.amp.GradScaler('cuda', ...)",
    "torch.cuda.amp.grad_scaler.GradScaler": "torch.amp.GradScaler('cuda', ...)",
    "torch.cpu.amp.GradScaler": "torch.amp.GradScaler('cpu', ...)",
    "torch.cpu.amp.grad_scaler.GradScaler": "torch.amp.GradScaler('cpu', ...)",
    "torch.cuda.amp.custom_fwd": "torch.amp.custom_fwd(device_type='cuda')",
    "torch.cuda.amp.custom_bwd": "torch.amp.custom_bwd(device_type='cuda')",
    "torch.cuda.amp.autocast_mode.custom_fwd": "torch.amp.custom_fwd(device_type='cuda')",
    "torch.cuda.amp.autocast_mode.custom_bwd": "torch.amp.custom_bwd(device_type='cuda')",
    "torch.get_autocast_gpu_dtype": "torch.get_autocast_dtype('cuda')",
    "torch.set_autocast_gpu_dtype": "torch.set_autocast_dtype('cuda', ...)",
    "torch.get_autocast_cpu_dtype": "torch.get_autocast_dtype('cpu')",
    "torch.set_autocast_cpu_dtype": "torch.set_autocast_dtype('cpu', ...)",
    "torch.is_autocast_cpu_enabled": "torch.is_autocast_enabled('cpu')",
    "torch.set_autocast_cpu_enabled": "torch.set_autocast_enabled('cpu', ...)",
}
"""Old name → new one; FutureWarning or DeprecationWarning since torch 2.4 (the GradScaler of torch.amp since 2.3)."""

AUTOCAST_DEVICES = frozenset(
    [
        "cpu",
        "cuda",
        "xpu",
        "mps",
        "hpu",
        "xla",
        "mtia",
        "maia",
        "ipu",
        "ve",
        "meta",
        "privateuseone",
        "npu",
        "mlu",
        "musa",
        "fpga",
        "ort",
        "vulkan",
        "lazy",
        "hip",
    ]
)

DTYPES = {
    "float16": "float16", "half": "float16", "bfloat16": "bfloat16", "float32": "float32", "float": "float32",
    "float64": "float64", "double": "float64", "int64": "int64", "long": "int64", "int32": "int32", "int": "int32",
    "bool": "bool", "uint8": "uint8", "int8": "int8", "int16": "int16", "short": "int16",
}  # fmt: skip
NUMPY_DTYPES = {
    "float64": "float64", "double": "float64", "float_": "float64", "float32": "float32", "single": "float32",
    "float16": "float16", "half": "float16", "int64": "int64", "int32": "int32", "int8": "int8", "uint8": "uint8",
    "int_": "int64", "bool_": "bool", "longlong": "int64", "int16": "int16", "uint16": "uint16", "uint32": "uint32",
}  # fmt: skip

DEFAULT_AUTOCAST_DTYPE = {"cpu": "bfloat16", "cuda": "float16", "xpu": "float16", "mps": "float16", "mtia": "float16"}
"""`torch.get_autocast_dtype(device)` of torch 2.13."""

is_clip = _names(
    r"^(torch\.nn\.utils(\.clip_grad)?\.clip_grad(_norm|_value|s_with_norm)_?"
    r"|timm\.utils(\..*)?\.(dispatch_clip_grad|agc\.adaptive_clip_grad|adaptive_clip_grad)|fairscale\..*clip_grad_norm_?)$"
)
FACTORIES = frozenset(
    {"empty", "full", "normal", "ones", "rand", "randn", "tensor", "zeros", "Tensor", "FloatTensor", "Parameter"}
)
"""Last names of what makes a tensor of numbers."""
is_like = _names(r"^torch\.\w+_like$")
"""What makes a tensor of the shape and the dtype of another, and is no function of it: no gradient goes through."""
NEW = frozenset({"new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"})
"""Methods of a tensor that do the same."""

NO_GRAD = frozenset(
    {"torch.no_grad", "torch.inference_mode", "torch.autograd.no_grad", "torch.autograd.grad_mode.no_grad"}
)
NULL_CONTEXT = frozenset({"contextlib.nullcontext", "contextlib.suppress", "contextlib.ExitStack"})
is_module_wrapper = _names(
    r"(^|\.)(DataParallel|DistributedDataParallel|DDP|FullyShardedDataParallel|FSDP|compile|convert_sync_batchnorm"
    r"|ShardedDataParallel|fully_shard|script)$"
)
APPLIED = frozenset({"torch.nn.parallel.data_parallel", "torch.nn.parallel.data_parallel.data_parallel"})
"""What calls the module that it gets first with what it gets second, a tuple of all inputs or the only one."""
is_optimizer = _names(
    r"^(torch\.optim\.(?!lr_scheduler|swa_utils)(\w+\.)*[A-Z]\w*|.*\.(Fused)?(Adam\w*|SGD\w*|RMSprop\w*|Adagrad|Adafactor|Lion|LAMB|Lamb|LARS|Lars|Ranger|RAdam|NAdam|Muon|Shampoo|Adan|AdaBelief|MADGRAD|Novograd)(8bit|32bit)?"
    r"|timm\.optim\.(\w+\.)*create_optimizer(_v2)?|[\w.]*\boptim\w*\.(?!lr_scheduler|swa_utils)(\w+\.)*[A-Z]\w*)$"
)
OPTIMIZERS = frozenset(
    ("ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "Muon", "NAdam", "Optimizer",
     "RAdam", "RMSprop", "Rprop", "SGD", "SparseAdam", "lr_scheduler", "swa_utils")
)  # fmt: skip
"""What `from torch.optim import *` gives, in torch 2.13."""
BCE = frozenset({"torch.nn.functional.binary_cross_entropy", "torch.binary_cross_entropy"})
BCE_MODULES = frozenset({"torch.nn.BCELoss", "torch.nn.modules.loss.BCELoss"})
NONLINEAR = frozenset(
    ("softmax", "log_softmax", "sigmoid", "logsigmoid", "logsumexp", "tanh", "relu", "gelu", "softplus", "exp", "log",
     "normalize", "layer_norm", "batch_norm", "argmax", "scaled_dot_product_attention")
)  # fmt: skip
"""What nobody gives a loss that was multiplied by its scale: the scale would not come out as a factor."""


is_loss = _names(r"^torch\.nn\.(functional\.\w*(loss|cross_entropy|kl_div|_nll)\w*|(modules\.loss\.)?\w+Loss)$")

OWNERS = frozenset(
    [
        "accelerate",
        "deepspeed",
        "lightning",
        "pytorch_lightning",
        "lightning_fabric",
        "composer",
        "ignite",
        "fastai",
        "mmengine",
        "mmcv",
        "mmdet",
        "mmseg",
        "mmcls",
        "mmpretrain",
        "mmpose",
        "mmocr",
        "mmedit",
        "mmaction",
        "monai",
        "detectron2",
        "ultralytics",
        "catalyst",
        "colossalai",
        "megatron",
        "fairseq",
        "trl",
        "allennlp",
        "determined",
        "poutyne",
        "skorch",
        "flash",
        "torchtnt",
        "tango",
    ]
)
"""Packages whose engines drive the backward, the scaler and the step themselves."""
_drives_nothing = _names(
    r"^(monai\.(?!apps|bundle|engines|fl|handlers)"
    r"|monai\.apps\.(\w+\.)*(\w*Dataset|CrossValidation|download\w*|extract\w*|check_hash)$"
    r"|(mmcv|mmengine)\.(Config|ConfigDict|DictAction|ProgressBar|Timer|mkdir_or_exist|im\w+|is_\w+|dump|load)(\.|$)"
    r"|mmcv\.runner\.(get_dist_info|init_dist|load_\w+|set_random_seed)$"
    r"|detectron2\.(checkpoint|export|model_zoo|modeling|solver)\.|detectron2\.engine\.(\w+\.)*(default_\w+|launch)$"
    r"|(pytorch_)?lightning\.(\w+\.)*seed_everything$|deepspeed\.(init_distributed|add_config_arguments)$"
    r"|\w+\.(\w+\.)?(accelerator|cnn|comm|config|data|datasets|evaluation|file_?io|layers|logging|loggers|losses"
    r"|metrics|modules|ops|profiling|registry|structures|transforms|util(itie)?s|visuali[sz](ation|er))\.)"
)
"""What else these hold: losses, data, metrics, settings, layers."""
STEPS_OF_THEIR_OWN = {"detectron2": frozenset(("run_step",))}
"""Methods of a framework's trainers that are an iteration with all its protocol, for a subclass to write anew."""
is_owner_class = _names(r"^(transformers\.(\w+\.)*\w*Trainer|torchrl\..*Trainer)$")

is_module = _names(r"^(torch\.nn\.(?!utils|functional|init|parameter|Parameter$)|monai\.losses\.)(\w+\.)*[A-Z]\w*$")
is_of_models = _names(
    r"^(transformers|diffusers|timm|torchvision\.models|torch\.hub|segmentation_models_pytorch|open_clip|clip"
    r"|monai\.networks|efficientnet_pytorch|sentence_transformers)\b"
)

is_numpy_float64 = _names(
    r"^numpy\.(zeros|ones|empty|full|eye|identity|linspace|logspace|geomspace"
    r"|random\.(rand|randn|random|random_sample|normal|uniform|standard_normal|exponential|beta|gamma)|loadtxt|genfromtxt|hanning|hamming|blackman)$"
)
"""Constructors whose result is float64 when no dtype is given (`full` by its fill value)."""

TESTS = frozenset(("isnan", "isinf", "isfinite", "any", "all", "equal", "allclose", "is_nonzero"))
"""What asks something of a tensor's values: the answer decides, it is no part of the loss."""

is_harmless = _names(
    r"(?i)(sched|lr|warm|ema|log|writer|meter|track|wandb|profil|hook|save|load|print|resume|checkpoint|ckpt|plot"
    r"|eval|valid|test|metric|summary|seed|rank|barrier|reduce|sync|timer|progress|tqdm|isinstance|hasattr|len|getattr"
    r"|callback|broadcast|watch|param|freeze|count|display|record|dump|visual|restore)"
)
"""Callee names that do not act on the gradients or on the scaler of what they get."""
is_step = _names(r"(?i)(^|_)(step|backward|optimi[sz]e)(_|$)")
"""Callee names that may, however harmless the rest of the name sounds: `step_and_update_lr(scaler)`."""


def owner(name: str) -> str:
    """The package that owns the training protocol behind a qualified name, or ''."""
    top = name.split(".", maxsplit=1)[0]
    if top in OWNERS and not _drives_nothing(name):
        return top
    return "transformers" if is_owner_class(name) else ""
