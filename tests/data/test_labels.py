import shutil

import pandas as pd
import pytest
from support.data import (
    MIRROR,
    SAMPLES,
    distorted_set,
    needs_mirror,
    needs_samples,
    own_set,
    write_picture,
)

from liqe_core.data.labels import COLUMNS, read_labels, readable, summary
from liqe_core.data.manifests import TRAINING_SETS, ManifestError, load_manifest, manifest_dir
from liqe_core.data.released_labels import DISTORTION_GROUPS
from liqe_core.data.splits import SESSION_COLUMNS
from liqe_core.data.tables import LabelError
from liqe_core.prompts import DISTORTIONS


@pytest.fixture(scope="module")
def released():
    return pd.concat([read_labels(name, mirror=MIRROR) for name in TRAINING_SETS], ignore_index=True)


@needs_mirror
def test_counts_of_images_distortions_and_sessions_are_the_manifests(released):
    assert tuple(released.columns) == COLUMNS
    assert dict(released["dataset"].value_counts()) == {
        "live": 779,
        "csiq": 866,
        "kadid10k": 10_125,
        "bid": 586,
        "clive": 1_162,
        "koniq10k": 10_073,
    }
    for name in TRAINING_SETS:
        manifest, table = load_manifest(name), released[released["dataset"] == name]
        assert dict(table["distortion"].value_counts()) == dict(manifest.expect.distortions)
        for session, expected in zip(SESSION_COLUMNS, manifest.sessions, strict=True):
            parts = table[session].value_counts()
            assert (parts["train"], parts["val"], parts["test"]) == expected


@needs_mirror
def test_each_column_of_a_row_is_what_the_file_says(released):
    # From IQA_Database/koniq-10k/splits2/1/koniq10k_test_clip.txt, line 2; 5447287552 is a test image there.
    row = released[released["image"] == "1024x768/5447287552.jpg"].iloc[0]
    assert (row.dataset, row.mos, row.session_1) == ("koniq10k", 3.53125, "test")
    assert (row.distortion, row.distortion_group) == ("other realistic", "other")
    assert row.scenes == ("human", "landscape") and pd.isna(row.reference)
    sparrow = released[released["image"] == "dst_imgs/awgn/sunset_sparrow.AWGN.1.png"].iloc[0]
    assert (sparrow.reference, sparrow.mos, sparrow.session_1) == ("sunset_sparrow", 0.958, "test")
    assert (sparrow.distortion, sparrow.distortion_group) == ("white noise", "noise")
    assert released["scenes"].map(len).between(1, 3).all()


@needs_mirror
def test_summary_is_the_papers_table_of_data_sets(released):
    table = summary(released).set_index("dataset")
    assert table["images"].sum() == 23_591
    assert table.loc["csiq", ["images", "distortions", "references"]].tolist() == [866, 6, 30]
    assert table.loc["kadid10k", ["lowest", "highest"]].tolist() == [1.0, 4.93]
    assert (table["with_scenes"] == table["images"]).all()


def test_every_distortion_counts_as_one_that_the_prompts_have():
    assert len(DISTORTION_GROUPS) == 33
    assert set(DISTORTION_GROUPS.values()) == set(DISTORTIONS)


@needs_mirror
def test_fast_fading_can_be_put_right(released):
    table = read_labels("live", mirror=MIRROR, fastfading="corrected")
    fading = table["image"].str.startswith("fastfading/")
    assert fading.sum() == 145
    assert (table.loc[fading, "distortion"] == "fastfading").all()
    assert (table.loc[fading, "distortion_group"] == "jpeg2000 compression").all()
    # LIVE's reference map says that fastfading/img111 .. img115 show "sailing2", as jp2k/img55 does.
    scenes = table.set_index("image")["scenes"]
    assert all(scenes[f"fastfading/img{i}.bmp"] == scenes["jp2k/img55.bmp"] for i in range(111, 116))
    live = released[released["dataset"] == "live"].reset_index(drop=True)
    pd.testing.assert_frame_equal(table[~fading], live[~fading])
    with pytest.raises(ValueError, match="choose released or corrected"):
        read_labels("live", mirror=MIRROR, fastfading="fixed")


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """A copy of BID's label files, without pins, in which one line can be changed."""
    if not MIRROR.is_dir():
        pytest.skip(f"the public label files are not at {MIRROR}")
    for name in ("IQA_Database/BID",):
        shutil.copytree(MIRROR / name, tmp_path / name, copy_function=shutil.copyfile)
    for folder in tmp_path.rglob("*"):
        folder.chmod(0o755)
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    shutil.copyfile(manifest_dir() / "bid.yaml", manifests / "bid.yaml")
    (manifests / "labels.sha256").write_text("")
    monkeypatch.setenv("LIQE_MANIFESTS", str(manifests))

    def change(line, make, part="train"):
        path = tmp_path / f"IQA_Database/BID/splits2/3/bid_{part}_clip.txt"
        lines = path.read_text().splitlines()
        lines[line - 1] = "\t".join(make(lines[line - 1].split("\t"), lines))
        path.write_text("\n".join(lines))
        return tmp_path

    return change


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda f, _: [f[0], "NaN", *f[2:]], "line 5: the score is not a number"),
        (lambda f, _: f[:1], "line 5: the score is not a number"),
        (
            lambda f, lines: lines[0].split("\t"),
            "line 5: 'ImageDatabase/.*' is in this session a second time",
        ),
        (lambda f, _: [f[0], "1.25", *f[2:]], "line 5: .* has other labels here"),
        (lambda f, _: [*f[:2], "wobble", *f[3:]], "line 5: unknown distortion 'wobble'"),
        (lambda f, _: [*f[:3], "moon", *f[4:]], "line 5: unknown scene 'moon'"),
        (lambda f, _: ["new.JPG", *f[1:]], "in no part of session"),
        (lambda f, _: [*f, "more"], "Expected 6 fields in line 5, saw 7"),
    ],
)
def test_a_bad_line_of_a_released_file_is_named(broken, make, says):
    mirror = broken(5, make)
    with pytest.raises(LabelError, match=says):
        read_labels("bid", mirror=mirror)


@needs_mirror
def test_a_clone_that_differs_from_the_commit_is_refused(tmp_path):
    name = "IQA_Database/BID/splits2/1/bid_val_clip.txt"
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_bytes((MIRROR / name).read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(
        LabelError, match=r"bid_test_clip.txt|bid_train_clip.txt"
    ):  # Windows line ends are taken
        read_labels("bid", mirror=tmp_path)
    path.write_text("changed\n")
    with pytest.raises(LabelError, match="differs from commit a64655f"):
        read_labels("bid", mirror=tmp_path)
    with pytest.raises(LabelError, match="not a clone"):
        read_labels("bid", mirror=tmp_path / "IQA_Database" / "BID")


@needs_samples
def test_biq2021_is_read_from_its_two_files():
    table = read_labels("biq2021", root=SAMPLES)
    assert len(table) == 300
    assert dict(table["session_1"].value_counts()) == {"train": 240, "test": 60}
    first = table.iloc[0]  # Train (Images and MOS).csv, line 2
    assert (first.image, first.mos) == ("Images/ss01 (368).jpg", 0.1101)
    assert first.scenes == () and pd.isna(first.distortion) and pd.isna(first.session_2)


def test_an_image_in_both_parts_of_biq2021_is_refused(tmp_path):
    folder = tmp_path / "BIQ2021"
    folder.mkdir()
    (folder / "Train (Images and MOS).csv").write_text("Image Name,MOS,,\r\na.jpg,0.5,,\r\n")
    (folder / "Test (Images and MOS).csv").write_text("Image Name,MOS\r\na.jpg,0.5\r\n")
    with pytest.raises(LabelError, match=r"a\.jpg"):
        read_labels("biq2021", root=tmp_path)


def test_tid2013(tmp_path):
    (tmp_path / "tid2013").mkdir()
    path = tmp_path / "tid2013" / "mos_with_names.txt"
    path.write_text("5.51429 I01_01_1.bmp\n0.24242 i25_24_5.BMP\n")
    table = read_labels("tid2013", root=tmp_path)
    assert list(table["image"]) == ["distorted_images/I01_01_1.bmp", "distorted_images/i25_24_5.BMP"]
    assert list(table["mos"]) == [5.51429, 0.24242]
    assert list(table["distortion"]) == ["additive gaussian noise", "sparse sampling and reconstruction"]
    path.write_text("5.5 I01_01_1.bmp\n5.5 I01_25_1.bmp\n")
    with pytest.raises(LabelError, match=r"line 2: 'I01_25_1.bmp' is not a TID2013 name"):
        read_labels("tid2013", root=tmp_path)


def test_pipal(tmp_path):
    folder = tmp_path / "PIPAL" / "Train_Label"
    folder.mkdir(parents=True)
    with pytest.raises(LabelError, match=r"no .txt files"):
        read_labels("pipal", root=tmp_path)
    (folder / "A0001.txt").write_text("A0001_00_00.bmp,1520.0648\nA0001_00_01.bmp,1437.0798\n")
    (folder / "A0003.txt").write_text("A0003_00_00.bmp,1400\n")
    table = read_labels("pipal", root=tmp_path)
    assert table["image"][0] == "Train_Dist/A0001_00_00.bmp"
    assert list(table["mos"]) == [1520.0648, 1437.0798, 1400.0]
    assert list(table["reference"]) == ["a0001", "a0001", "a0003"]
    (folder / "A0004.txt").write_text("A0003_00_00.bmp,1400\n")
    with pytest.raises(LabelError, match="A0003_00_00"):
        read_labels("pipal", root=tmp_path)


def test_spaq_spreadsheet(tmp_path):
    folder = tmp_path / "SPAQ" / "Annotations"
    folder.mkdir(parents=True)
    path = folder / "MOS and Image attribute scores.xlsx"
    pd.DataFrame(
        {"Image name": ["00001.jpg", "00002.jpg"], "MOS": [48.86, 62.5], "Brightness": [1, 2]}
    ).to_excel(path, index=False)
    table = read_labels("spaq", root=tmp_path)
    assert list(table["image"]) == ["TestImage/00001.jpg", "TestImage/00002.jpg"]
    assert list(table["mos"]) == [48.86, 62.5]
    pd.DataFrame({"Image name": ["00001.jpg"], "Brightness": [1]}).to_excel(path, index=False)
    with pytest.raises(LabelError, match="no column 'MOS'"):
        read_labels("spaq", root=tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "text", "image", "mos"),
    [
        ("flive", "FLIVE_Database/labels_image.csv", "name,mos\nblur_dataset/m.jpg,75.4\n",
         "database/blur_dataset/m.jpg", 75.4),
        ("agiqa3k", "AGIQA-3K/data.csv", 'name,prompt,mos_quality\nA_0.jpg,"a, b",0.97\n', "A_0.jpg", 0.97),
    ],
)  # fmt: skip
def test_csv_of_flive_and_agiqa3k(tmp_path, name, file, text, image, mos):
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(text)
    row = read_labels(name, root=tmp_path).iloc[0]
    assert (row.image, row.mos) == (image, mos)


def test_readable_are_the_sets_whose_labels_are_here(tmp_path, monkeypatch):
    for name in ("LIQE_LABELS", "LIQE_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    assert readable(tmp_path / "data") == []
    (tmp_path / "data" / "tid2013").mkdir()
    assert readable(tmp_path / "data") == ["tid2013"]
    of_clone, fetched = readable(tmp_path / "data", mirror=tmp_path), readable(tmp_path / "data", fetch=True)
    assert set(of_clone) == set(fetched) == {"tid2013", *TRAINING_SETS}


def test_a_set_that_is_not_there_says_where_to_get_it(tmp_path):
    with pytest.raises(LabelError, match=r"no such label file of spaq .*https://github.com/h4nwei/SPAQ"):
        read_labels("spaq", root=tmp_path)


def test_ones_own_csv_with_everything(tmp_path):
    manifest = own_set(tmp_path, score="{column: opinion, range: [0, 10], direction: lower}")
    (tmp_path / "photographs" / "scores.csv").write_bytes(
        b"file_name;opinion;distortion;scenes;reference;split\r\n"
        b"gr\xfcn.png;2,5;blur;human|night;r1;train\r\n"
        b"p001.png;10;;;;validation\r\n"
    )
    table = read_labels(manifest)
    assert list(table["mos"]) == [7.5, 0.0], "turned round: higher is better"
    assert list(table["image"]) == ["grün.png", "p001.png"]
    assert list(table["scenes"]) == [("human", "night"), ()]
    assert table["distortion_group"][0] == "blur" and pd.isna(table["distortion"][1])
    assert list(table["session_1"]) == ["train", "val"]
    for wrong, says in (
        ("a;1;;moon;;\r\n", "unknown scene moon"),
        ("a;1;JPEG;;;\r\n", "unknown distortion JPEG"),
        ("a;1;;;;dev\r\n", "split 'dev'"),
    ):
        (tmp_path / "photographs" / "scores.csv").write_text(
            "file_name;opinion;distortion;scenes;reference;split\r\n" + wrong
        )
        with pytest.raises(LabelError, match=f"line 2: {says}"):
            read_labels(manifest)


def test_ones_own_words_take_the_place_of_the_papers(tmp_path):
    manifest = own_set(tmp_path, words="{scene: [shoe, hat], distortion: [scratched, faded]}")
    path = tmp_path / "photographs" / "scores.csv"
    path.write_text("file_name,opinion,distortion,scenes\na,1,faded,hat;shoe\nb,2,,\n")
    table = read_labels(manifest)
    assert list(table["scenes"]) == [("hat", "shoe"), ()]
    assert table["distortion_group"][0] == "faded" and pd.isna(table["distortion_group"][1])
    path.write_text("file_name,opinion,distortion,scenes\na,1,blur,hat\n")
    with pytest.raises(LabelError, match="line 2: unknown distortion blur; known: scratched, faded; or name"):
        read_labels(manifest)
    with pytest.raises(ManifestError, match=r"words\.scene"):
        own_set(tmp_path, words="{scene: ['shoe;hat']}")


def test_a_suffix_is_put_after_the_names(tmp_path):
    labels = "{form: csv, file: scores.csv, image: file_name, suffix: .png}"
    manifest = own_set(tmp_path, labels=labels)
    (tmp_path / "photographs" / "scores.csv").write_text("file_name,opinion\np000,2\na.b/p001.v2,3\n")
    assert list(read_labels(manifest)["image"]) == ["p000.png", "a.b/p001.v2.png"]
    hevc = tmp_path / "hevc"
    hevc.mkdir()
    (hevc / "mos_ci.csv").write_text("image_name,mos,ci,std\nA.mov_1frame_crf_03_height_0864,3.1,0.7,0.8\n")
    row = read_labels("hevc", root=tmp_path).iloc[0]
    assert (row.image, row.mos) == ("images/A.mov_1frame_crf_03_height_0864.png", 3.1)
    assert row.reference == "a.mov_1frame"


@pytest.fixture
def classes(tmp_path):
    """A set of two classes that are folders, one that is a picture, and one without a word."""
    for name in (
        "sun/lake/b.jpg",
        "sun/lake/a.jpg",
        "sun/garden/c.jpg",
        "net/n1_cat.JPEG",
        "net/n2_gas.JPEG",
    ):
        write_picture(tmp_path / "mine" / name)
    path = tmp_path / "mine.yaml"
    path.write_text(
        "title: Scenes\nfolder: mine\nlabels: {form: classes, file: classes.csv}\nhome: https://example.org\n"
    )

    def read(**words):
        lines = {
            "sun/lake": "landscape",
            "sun/garden": "landscape;plant",
            "net/n1_cat.JPEG": "animal",
            "net/n2_gas.JPEG": "",
        } | words
        rows = [f"{name},{scenes}\n" for name, scenes in lines.items() if scenes is not None]
        (tmp_path / "classes.csv").write_text("class,scenes\n" + "".join(rows))
        return read_labels(path)

    return read


def test_pictures_of_classes_have_the_words_of_their_class(classes):
    table = classes()
    assert dict(zip(table["image"], table["scenes"], strict=True)) == {
        "net/n1_cat.JPEG": ("animal",),
        "sun/garden/c.jpg": ("landscape", "plant"),
        "sun/lake/a.jpg": ("landscape",),
        "sun/lake/b.jpg": ("landscape",),
    }, "no word is forced on the picture that none fits"
    assert tuple(table.columns) == COLUMNS and set(table["dataset"]) == {"mine"}
    assert table["mos"].isna().all() and table["distortion"].isna().all()
    words = classes(**{"sun/lake": "", "sun/garden": None, "sun/garden/c.jpg": "plant"})
    assert list(words["image"]) == ["net/n1_cat.JPEG", "sun/garden/c.jpg"], "a word for a single picture"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"net/n2_gas.JPEG": "gas"}, r"classes.csv, line 5: unknown scene gas; known: animal"),
        ({"sun/lake": "landscape;moon"}, r"classes.csv, line 2: unknown scene moon;"),
        ({"sun/night": "night"}, r"classes.csv, line 6: no picture of class 'sun/night' in .*mine \(1 such"),
        ({"sun": "night"}, r"classes.csv, line 6: no picture of class 'sun' in "),
        ({"sun/lake": None}, r"classes.csv: no class of 'sun/lake/a.jpg' \(2 such pictures"),
        ({"net/n2_gas.JPEG": None}, r"classes.csv: no class of 'net/n2_gas.JPEG' \(1 such"),
        ({"": "plant"}, r"classes.csv, line 6: no image name"),
    ],
)
def test_a_list_of_classes_that_does_not_match_is_refused(classes, words, says):
    with pytest.raises(LabelError, match=says):
        classes(**words)


def test_classes_without_pictures_or_columns_are_told(classes, tmp_path):
    classes()
    (tmp_path / "classes.csv").write_text("class,words\nsun/lake,landscape\n")
    with pytest.raises(LabelError, match=r"classes.csv, line 1: no column 'scenes'"):
        read_labels(tmp_path / "mine.yaml")
    shutil.rmtree(tmp_path / "mine")
    with pytest.raises(LabelError, match=r"mine: no pictures; get the data set from https://example\.org"):
        classes()


def test_photographs_to_distort_that_are_not_there_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_DATA", str(tmp_path / "elsewhere"))
    manifest = distorted_set(tmp_path, photographs=2, best=1)
    assert len(read_labels(manifest)) == 75
    (tmp_path / "BIQ2021").rename(tmp_path / "away")
    with pytest.raises(LabelError, match=r"liqe data fetch biq2021$"):
        read_labels(manifest)
    shutil.rmtree(manifest.folder() / "photographs")
    with pytest.raises(LabelError, match=r"liqe data fetch made biq2021$"):
        read_labels(manifest)
    (tmp_path / "away").rename(tmp_path / "BIQ2021")
    with pytest.raises(LabelError, match=r"liqe data fetch made$"):
        read_labels(manifest)


def test_the_best_are_the_best_where_a_low_score_is_a_good_one(tmp_path, monkeypatch):
    distorted_set(tmp_path, photographs=1, best=1)
    manifests = tmp_path / "manifests"
    shutil.copytree(manifest_dir(), manifests)
    text = (manifests / "biq2021.yaml").read_text()
    (manifests / "biq2021.yaml").write_text(text.replace("direction: higher", "direction: lower"))
    monkeypatch.setenv("LIQE_MANIFESTS", str(manifests))
    assert set(read_labels(tmp_path / "made.yaml")["reference"]) == {"part/0.png", "Images/p00.jpg"}


def test_a_manifest_without_labels_is_told(tmp_path):
    path = tmp_path / "mini.yaml"
    path.write_text("title: m\nphotographs: [x]\n")
    with pytest.raises(LabelError, match="names no label file"):
        read_labels(path)
