"""Programs as they are written for the official package print and write the same after one line is changed.

They follow its README and notebooks and what public repositories do with it. Each runs twice in a folder with ``npz``,
the official files of three subsets: as it is, and with ``medmnist_hf.official`` in place of ``medmnist``.
"""

import contextlib
import importlib
import io
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.official.test_dataset import files

PROGRAMS = {
    "the README": """
from medmnist import BreastMNIST
train_dataset = BreastMNIST(split="train", download=True, root="npz", size=28)
print(len(train_dataset), train_dataset.imgs.shape, train_dataset.labels.shape, train_dataset.labels.dtype)
x, y = train_dataset[0]
print(x.mode, x.size, x.getpixel((3, 4)), y)
""",
    "getting started: the class of a flag": """
import medmnist
from medmnist import INFO, Evaluator
print(f"MedMNIST v{medmnist.__version__} @ {medmnist.HOMEPAGE}")
for data_flag in ("breastmnist", "retinamnist", "adrenalmnist3d"):
    info = INFO[data_flag]
    DataClass = getattr(medmnist, info["python_class"])
    print(info["task"], info["n_channels"], len(info["label"]), info["label"], DataClass.available_sizes)
    print(*[line for line in str(DataClass(split="test", root="npz")).split("\\n") if "Description" not in line])
""",
    "getting started: loaders of torch": """
import medmnist, torch
import torch.utils.data as data
import torchvision.transforms as transforms
info = medmnist.INFO["retinamnist"]
DataClass = getattr(medmnist, info["python_class"])
data_transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean=[.5], std=[.5])])
train_dataset = DataClass(split="train", transform=data_transform, root="npz")
pil_dataset = DataClass(split="train", root="npz")
train_loader = data.DataLoader(dataset=train_dataset, batch_size=128, shuffle=True)
train_loader_at_eval = data.DataLoader(dataset=train_dataset, batch_size=256, shuffle=False)
for x, y in train_loader:
    print(x.shape, x.dtype, x.sum().item(), y.shape, y.dtype, y.sum().item())
x, y = next(iter(train_loader_at_eval))
print(x.double().pow(2).sum().item(), y.squeeze().long().tolist()[:20], pil_dataset[5][0].tobytes()[:9])
""",
    "getting started: pictures": """
import numpy as np
from medmnist import BreastMNIST, RetinaMNIST
for DataClass in (BreastMNIST, RetinaMNIST):
    dataset = DataClass(split="test", root="npz")
    for length in (1, 5, 12):
        picture = dataset.montage(length=length)
        print(picture.mode, picture.size, np.asarray(picture).sum())
    dataset.montage(length=3, replace=True, save_folder="tmp/")
""",
    "getting started: training and testing": """
import torch, torch.nn as nn, torch.optim as optim
import torchvision.transforms as transforms
import medmnist
from medmnist import INFO, Evaluator
data_flag, split = "breastmnist", "test"
info = INFO[data_flag]
task = info["task"]
DataClass = getattr(medmnist, info["python_class"])
tf = transforms.Compose([transforms.ToTensor(), transforms.Normalize([.5], [.5])])
train_loader = torch.utils.data.DataLoader(DataClass("train", transform=tf, root="npz"), 64, shuffle=True)
test_loader = torch.utils.data.DataLoader(DataClass(split, transform=tf, root="npz"), 128)
model = nn.Sequential(nn.Flatten(), nn.Linear(784, len(info["label"])))
criterion = nn.BCEWithLogitsLoss() if task == "multi-label, binary-class" else nn.CrossEntropyLoss()
optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for inputs, targets in train_loader:
    optimizer.zero_grad()
    loss = criterion(model(inputs), targets.squeeze().long())
    loss.backward()
    optimizer.step()
y_score = torch.tensor([])
with torch.no_grad():
    for inputs, targets in test_loader:
        y_score = torch.cat((y_score, model(inputs).softmax(dim=-1)), 0)
y_score = y_score.detach().numpy()
evaluator = Evaluator(data_flag, split, root="npz")
metrics = evaluator.evaluate(y_score, ".", "mine")
print("%s  auc: %.3f  acc:%.3f" % (split, *metrics), metrics.AUC > 0.5, loss.item())
""",
    "getting started: volumes": """
import medmnist
info = medmnist.INFO["adrenalmnist3d"]
train_dataset = getattr(medmnist, info["python_class"])(split="val", download=True, root="npz")
x, y = train_dataset[0]
print(x.shape, x.dtype, x.min(), x.max(), x.sum(), y, y.dtype)
rgb = medmnist.AdrenalMNIST3D(split="val", as_rgb=True, root="npz")
print(rgb[3][0].shape, rgb[3][0].sum())
frames = train_dataset.montage(length=4, save_folder="tmp")
print(len(frames), frames[14].size, frames[10].tobytes()[:3000].count(255))
""",
    "getting started without torch": """
from medmnist.info import INFO, HOMEPAGE, DEFAULT_ROOT
import os, numpy as np
class Loader:
    def __init__(self, flag, split, root):
        self.info = INFO[flag]
        npz_file = np.load(os.path.join(root, f"{flag}.npz"))
        self.imgs, self.labels = npz_file[f"{split}_images"], npz_file[f"{split}_labels"]
        assert self.imgs.shape[0] == self.info["n_samples"][split]
loader = Loader("breastmnist", "val", "npz")
print(HOMEPAGE, os.path.basename(DEFAULT_ROOT), loader.imgs.mean(), loader.labels.mean())
""",
    "saved as images": """
from medmnist import BreastMNIST, RetinaMNIST
for split in ("train", "val", "test"):
    BreastMNIST(split=split, root="npz").save("out/")
RetinaMNIST(split="val", root="npz").save("out", postfix="jpg", write_csv=False)
""",
    "saved as animations": """
from medmnist import AdrenalMNIST3D
AdrenalMNIST3D(split="val", root="npz").save("out", postfix="gif")
""",
    "evaluator: dummy predictions of every split": """
import numpy as np
from medmnist import Evaluator
for flag in ("breastmnist", "adrenalmnist3d"):
    for split in ("train", "val", "test"):
        evaluator = Evaluator(flag, split, root="npz")
        dummy = evaluator.get_dummy_prediction()
        print(dummy.shape, dummy.sum(), evaluator.labels.dtype, evaluator.info["task"])
        metrics = evaluator.evaluate(dummy, ".", run="dummy")
        print([f"{name} {value:.9f}" for name, value in zip(metrics._fields, metrics)])
        print(evaluator.get_standard_evaluation_filename(metrics, run=3))
""",
    "evaluator: files": """
import glob, os
import numpy as np
from medmnist import Evaluator
evaluator = Evaluator("retinamnist", "test", root="npz")
rows = len(evaluator.labels)
scores = np.random.default_rng(0).integers(0, 1000, (rows, 5)) / 1000
os.makedirs("results")
evaluator.evaluate(scores, save_folder="results", run="1")
(path,) = glob.glob("results/retinamnist_test*.csv")
os.rename(path, "results/retinamnist_test@2.csv")
metrics = Evaluator.parse_and_evaluate("results/retinamnist_test@2.csv")
Evaluator.parse_and_evaluate("results/retinamnist_test@2.csv", run="other")
print(f"{metrics.AUC:.9f} {metrics.ACC:.9f}")
""",
    "functions of the evaluator": """
import numpy as np
from medmnist.evaluator import Evaluator, Metrics, getACC, getAUC
y_true = np.array([[0], [1], [2], [1], [0], [2]])
y_score = np.array([[.8, .1, .1], [.3, .5, .2], [.1, .2, .7], [.5, .3, .2], [.6, .3, .1], [.4, .3, .3]])
print(f"{getAUC(y_true, y_score, 'multi-class'):.12f}", getACC(y_true, y_score, "multi-class"))
hot = (y_true == np.arange(3)).astype(int)
for threshold in (.25, .5):
    print(f"{getACC(hot, y_score, 'multi-label, binary-class', threshold):.12f}")
print(f"{getAUC(hot, y_score, 'multi-label, binary-class'):.12f}", Metrics(0.5, 1.0))
""",
    "scikit-learn on pixels": """
import medmnist
from sklearn.neighbors import KNeighborsClassifier
train, test = (medmnist.BreastMNIST(split=split, root="npz") for split in ("train", "test"))
X, y = train.imgs.reshape(len(train), -1) / 255, train.labels.ravel()
model = KNeighborsClassifier(5).fit(X, y)
proba = model.predict_proba(test.imgs.reshape(len(test), -1) / 255)
print(medmnist.Evaluator("breastmnist", "test", root="npz").evaluate(proba).ACC)
""",
    "lists of arrays": """
from medmnist import RetinaMNIST
import numpy as np
data = RetinaMNIST(split="val", root="npz")
images = np.stack([np.asarray(image) for image, _ in data])
labels = np.concatenate([label for _, label in data])
print(images.dtype, images.shape, int(images.sum()), labels.dtype, np.bincount(labels).tolist())
""",
    "transforms of images and labels": """
import numpy as np, torch
from medmnist import BreastMNIST
data = BreastMNIST("val", transform=lambda image: np.array(image)[::2, ::2], as_rgb=True, root="npz",
                   target_transform=lambda label: torch.tensor(label).squeeze().long())
print(data[7][0].shape, data[7][1], data.transform is not None)
print(sum(int(image.sum()) for image, _ in data))
""",
    "parts and unions": """
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, WeightedRandomSampler, random_split
from medmnist import BreastMNIST
train, val = (BreastMNIST(split=split, root="npz") for split in ("train", "val"))
assert isinstance(train, Dataset)
both = ConcatDataset([train, val])
few, rest = random_split(train, [50, len(train) - 50])
print(len(both), len(train + val), len(few), [int(few[i][1][0]) for i in range(10)])
counts = torch.bincount(torch.from_numpy(train.labels).long().squeeze(1))
weights = 1.0 / counts[torch.from_numpy(train.labels).long().squeeze(1)]
print(list(WeightedRandomSampler(weights, 10)), [Subset(both, [550])[0][1]])
""",
    "a class of one's own": """
from medmnist.dataset import MedMNIST, MedMNIST2D, BreastMNIST
import numpy as np
class Twice(BreastMNIST):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return np.asarray(image).astype(float), np.asarray(image)[:, ::-1].astype(float), int(label[0])
data = Twice(split="test", root="npz")
left, right, label = data[2]
print(isinstance(data, MedMNIST), issubclass(Twice, MedMNIST2D), left.sum() == right.sum(), label, data.flag)
print(str(data).split("\\n")[0])
""",
    "rows chosen in place": """
from medmnist import BreastMNIST
import numpy as np
data = BreastMNIST(split="train", root="npz")
keep = np.flatnonzero(data.labels[:, 0] == 0)[:40]
data.imgs, data.labels = data.imgs[keep], data.labels[keep]
data.labels[0] = 1
print(data[3][1], data[0][1], data.imgs.sum(), data.imgs.shape)
""",
    "processes": """
import torch
from torchvision.transforms import PILToTensor
from medmnist import BreastMNIST
data = BreastMNIST(split="val", transform=PILToTensor(), root="npz")
for images, labels in torch.utils.data.DataLoader(data, 32, num_workers=2):
    print(images.shape, images.dtype, int(images.sum()), labels.sum().item())
""",
    "mapped": """
from medmnist import AdrenalMNIST3D
data = AdrenalMNIST3D(split="val", root="npz", mmap_mode="r", size=28)
print(data.imgs.dtype, data.imgs.shape, data.imgs.mean(), data.labels.sum(), data[-1][0].sum())
""",
    "errors": """
import medmnist
for options in ({"split": "dev", "root": "npz"}, {"split": "val", "root": "none"}, {"split": "val", "root": "out"}):
    try:
        medmnist.BreastMNIST(**options)
    except (RuntimeError, ValueError) as error:
        print(options, isinstance(error, RuntimeError), isinstance(error, ValueError))
""",
    "names of modules": """
import medmnist
from medmnist import dataset, evaluator, info, utils
from medmnist.utils import SPLIT_DICT, montage2d, montage3d, save2d, save3d, save_fn, load_frames, save_frames_as_gif
from medmnist.evaluator import save_results
print(sorted(name for name in dir(medmnist) if "MNIST" in name and "MedMNIST" not in name))
print(dataset.OrganMNISTAxial.flag, medmnist.dataset.PathMNIST is medmnist.PathMNIST, SPLIT_DICT)
print([name for name in medmnist.INFO if info.INFO[name]["n_channels"] == 3])
""",
}


def of_ours(program: str) -> str:
    """The program with ``medmnist_hf.official`` in place of the official package."""
    program = re.sub(r"^from medmnist\b", "from medmnist_hf.official", program, flags=re.MULTILINE)
    return re.sub(r"^import medmnist\b", "import medmnist_hf.official as medmnist", program, flags=re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_does_the_same(
    name: str, real_data: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("medmnist.evaluator", "medmnist_hf.official.evaluator"):
        evaluator = importlib.import_module(module).Evaluator
        monkeypatch.setattr(evaluator.__init__, "__defaults__", (None, "npz"))
        if evaluator.parse_and_evaluate.__kwdefaults__:  # the default root would be in the home folder
            monkeypatch.setattr(evaluator.parse_and_evaluate.__func__, "__kwdefaults__", {"root": "npz"})
    results = []
    for package, program in (("theirs", PROGRAMS[name]), ("ours", of_ours(PROGRAMS[name]))):
        folder = tmp_path / package
        folder.mkdir()
        (folder / "npz").symlink_to(real_data)
        monkeypatch.chdir(folder)
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(program, f"{package}: {name}", "exec"), {"__name__": "program"})
        lines = [line for line in printed.getvalue().splitlines() if not line.startswith(("Saving ", "Metrics("))]
        results.append((lines, files(folder)))
    (theirs, their_files), (ours, our_files) = results
    assert ours == theirs
    assert our_files.keys() == their_files.keys()
    assert our_files == their_files
    assert ours or len(our_files) > 3, "the program shows nothing"
