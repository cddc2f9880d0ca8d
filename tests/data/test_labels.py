import shutil

import pandas as pd
import pytest
from support.data import MIRROR, distorted_set, needs_mirror, own_set
from support.hub import write_labels

from liqe_core.data.labels import COLUMNS, read_labels, readable, summary
from liqe_core.data.manifests import TRAINING_SETS, ManifestError, load_manifest, manifest_dir
from liqe_core.data.tables import LabelError


@needs_mirror
def test_the_summary_counts_labels(released):
    assert tuple(released.columns) == COLUMNS
    table = summary(released).set_index("dataset")
    assert table.loc["csiq", ["images", "distortions", "references"]].tolist() == [866, 6, 30]
    assert table.loc["kadid10k", ["lowest", "highest"]].tolist() == [1.0, 4.93]
    assert (table["with_scenes"] == table["images"]).all()


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
    shift = released[released["image"] == "images/I02_05_01.png"].iloc[0]
    assert (shift.distortion, shift.distortion_group) == ("shifting", "blur"), "as the public code has it"
    assert released["scenes"].map(len).between(1, 3).all()


@needs_mirror
def test_fast_fading_can_be_put_right(released):
    table = read_labels("live", mirror=MIRROR, fastfading="corrected")
    fading = table["image"].str.startswith("fastfading/")
    live = released[released["dataset"] == "live"].reset_index(drop=True)
    pd.testing.assert_frame_equal(table[~fading], live[~fading])
    with pytest.raises(ValueError, match="corrected"):
        read_labels("live", mirror=MIRROR, fastfading="fixed")


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda f, _: [f[0], "NaN", *f[2:]], "line 5: .*score"),
        (lambda f, _: f[:1], "line 5: .*score"),
        (lambda f, lines: lines[0].split("\t"), "line 5: 'ImageDatabase/.*' .*second"),
        (lambda f, _: [f[0], "1.25", *f[2:]], "line 5: "),
        (lambda f, _: [*f[:2], "wobble", *f[3:]], "line 5: .*wobble"),
        (lambda f, _: [*f[:3], "moon", *f[4:]], "line 5: .*moon"),
        (lambda f, _: ["new.JPG", *f[1:]], "session"),
        (lambda f, _: [*f, "more"], "line 5"),
    ],
)
def test_a_bad_line_of_a_released_file_is_named(tmp_path, monkeypatch, make, word):
    """Line 5 of a label file of BID, where none is pinned."""
    write_labels(tmp_path, ["bid"])
    manifests, path = tmp_path / "manifests", tmp_path / "IQA_Database/BID/splits2/3/bid_train_clip.txt"
    manifests.mkdir()
    shutil.copyfile(manifest_dir() / "bid.yaml", manifests / "bid.yaml")
    (manifests / "labels.sha256").write_text("")
    monkeypatch.setenv("LIQE_MANIFESTS", str(manifests))
    lines = path.read_text().splitlines()
    lines[4] = "\t".join(make(lines[4].split("\t"), lines))
    path.write_text("\n".join(lines))
    with pytest.raises(LabelError, match=word):
        read_labels("bid", mirror=tmp_path)


@needs_mirror
def test_a_clone_that_differs_from_the_commit_is_rejected(tmp_path):
    name = "IQA_Database/BID/splits2/1/bid_val_clip.txt"
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_bytes((MIRROR / name).read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(LabelError, match="bid_t"):  # Windows line ends are taken: another file is missing
        read_labels("bid", mirror=tmp_path)
    path.write_text("changed\n")
    with pytest.raises(LabelError, match="commit"):
        read_labels("bid", mirror=tmp_path)
    with pytest.raises(LabelError, match="clone"):
        read_labels("bid", mirror=tmp_path / "IQA_Database" / "BID")


BIQ = [f"BIQ2021/{part} (Images and MOS).csv" for part in ("Train", "Test")]
PIPAL, TID = "PIPAL/Train_Label/{}.txt", "tid2013/mos_with_names.txt"


def write_files(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


HEVC = "A.mov_1frame_crf_03_height_0864"
FORMS = {  # name of the dataset -> its label file, a text, the first image
    "tid2013": (TID, "3.5 i25_24_5.BMP\n", "distorted_images/i25_24_5.BMP"),
    "pipal": (PIPAL.format("A1"), "A1_00_00.bmp,3.5\n", "Train_Dist/A1_00_00.bmp"),
    "flive": ("FLIVE_Database/labels_image.csv", "name,mos\nblur/m.jpg,3.5\n", "database/blur/m.jpg"),
    "agiqa3k": ("AGIQA-3K/data.csv", 'name,prompt,mos_quality\nA_0.jpg,"a, b",3.5\n', "A_0.jpg"),
    "hevc": ("hevc/mos_ci.csv", f"image_name,mos,ci\n{HEVC},3.5,1\n", f"images/{HEVC}.png"),
}


@pytest.mark.parametrize("name", FORMS)
def test_label_files_of_each_form(tmp_path, name):
    file, text, image = FORMS[name]
    write_files(tmp_path, {file: text})
    row = read_labels(name, root=tmp_path).iloc[0]
    assert (row.image, row.mos) == (image, 3.5)
    if name in ("pipal", "hevc"):
        assert row.reference == {"pipal": "a1", "hevc": "a.mov_1frame"}[name]
    if name == "tid2013":
        assert row.distortion == "sparse sampling and reconstruction"


@pytest.mark.parametrize(
    ("name", "files", "word"),
    [
        ("biq2021", dict.fromkeys(BIQ, "Image Name,MOS,,\r\na.jpg,1,,\r\n"), "a.jpg"),
        ("tid2013", {TID: "5.5 I01_01_1.bmp\n5.5 I01_25_1.bmp\n"}, "line 2: .*I01_25_1.bmp"),
        ("pipal", {}, "spaq|Train_Label"),
        ("pipal", {PIPAL.format(album): "A3_0.bmp,1400\n" for album in ("A3", "A4")}, "A3_0.bmp"),
        ("spaq", {}, "https://github.com/h4nwei/SPAQ"),
    ],
)
def test_label_files_that_are_missing_or_wrong_are_named(tmp_path, name, files, word):
    write_files(tmp_path, files)
    with pytest.raises(LabelError, match=word):
        read_labels(name, root=tmp_path)


def test_spaq_spreadsheet(tmp_path):
    path = tmp_path / "SPAQ" / "Annotations" / "MOS and Image attribute scores.xlsx"
    path.parent.mkdir(parents=True)
    names = ["00001.jpg", "00002.jpg"]
    sheet = pd.DataFrame({"Image name": names, "MOS": [48.86, 62.5], "Brightness": [1, 2]})
    sheet.to_excel(path, index=False)
    table = read_labels("spaq", root=tmp_path)
    assert list(table["image"]) == [f"TestImage/{name}" for name in names]
    assert list(table["mos"]) == [48.86, 62.5]


def test_datasets_with_labels_are_readable(tmp_path):
    (tmp_path / "data").mkdir()
    assert readable(tmp_path / "data") == []
    (tmp_path / "data" / "tid2013").mkdir()
    assert readable(tmp_path / "data") == ["tid2013"]
    of_clone, fetched = readable(tmp_path / "data", mirror=tmp_path), readable(tmp_path / "data", fetch=True)
    assert set(of_clone) == set(fetched) == {"tid2013", *TRAINING_SETS}


def test_a_users_csv_with_all_columns(tmp_path):
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
    heading = "file_name;opinion;distortion;scenes;reference;split\r\n"
    for row, word in (("a;1;;moon;;", "moon"), ("a;1;JPEG;;;", "JPEG"), ("a;1;;;;dev", "dev")):
        (tmp_path / "photographs" / "scores.csv").write_text(heading + row + "\r\n")
        with pytest.raises(LabelError, match=f"line 2: .*{word}"):
            read_labels(manifest)


def test_a_users_words_replace_the_papers_words(tmp_path):
    manifest = own_set(tmp_path, words="{scene: [shoe, hat], distortion: [scratched, faded]}")
    path = tmp_path / "photographs" / "scores.csv"
    path.write_text("file_name,opinion,distortion,scenes\na,1,faded,hat;shoe\nb,2,,\n")
    table = read_labels(manifest)
    assert list(table["scenes"]) == [("hat", "shoe"), ()]
    assert table["distortion_group"][0] == "faded" and pd.isna(table["distortion_group"][1])
    path.write_text("file_name,opinion,distortion,scenes\na,1,blur,hat\n")
    with pytest.raises(LabelError, match=r"line 2: .*blur.*scratched"):
        read_labels(manifest)
    with pytest.raises(ManifestError, match=r"words\.scene"):
        own_set(tmp_path, words="{scene: ['shoe;hat']}")


def test_columns_that_are_not_read_are_named(tmp_path):
    manifest = own_set(tmp_path, words="{scene: [shoe, hat]}", score="{column: 2, range: [1, 6]}")
    path = tmp_path / "photographs" / "scores.csv"
    path.write_text("file_name,opinion,scene,ref,splits\na,1,hat,r1,train\n")
    with pytest.warns(UserWarning, match=r"scores\.csv: .*'splits' .*'split'"):
        row = read_labels(manifest).iloc[0]
    assert (row.scenes, row.reference) == (("hat",), "r1"), "a scene is called as in the manifest"
    path.write_text("file_name,opinion,scene_label\na,1,hat\n")
    with pytest.raises(LabelError, match=r"'scenes'.*'scene_label'"):
        read_labels(manifest)
    path.write_text("file_name,opinion,scenes,split\na,1,hat,train\nb,2,,\n")
    with pytest.warns(UserWarning, match="1 of 2 .*session_1"):
        assert read_labels(manifest)["session_1"].isna().sum() == 1


def test_a_suffix_is_appended_to_the_names(tmp_path):
    labels = "{form: csv, file: scores.csv, image: file_name, suffix: .png}"
    manifest = own_set(tmp_path, labels=labels)
    (tmp_path / "photographs" / "scores.csv").write_text("file_name,opinion\np000,2\na.b/p001.v2,3\n")
    assert list(read_labels(manifest)["image"]) == ["p000.png", "a.b/p001.v2.png"]


def test_the_best_images_have_low_scores_on_a_reversed_scale(tmp_path, monkeypatch):
    distorted_set(tmp_path, photographs=1, best=1)
    manifests = tmp_path / "manifests"
    shutil.copytree(manifest_dir(), manifests)
    text = (manifests / "biq2021.yaml").read_text()
    (manifests / "biq2021.yaml").write_text(text.replace("direction: higher", "direction: lower"))
    monkeypatch.setenv("LIQE_MANIFESTS", str(manifests))
    assert set(read_labels(tmp_path / "made.yaml")["reference"]) == {"part/0.png", "Images/p00.jpg"}


def test_a_manifest_without_labels_is_reported(tmp_path):
    path = tmp_path / "mini.yaml"
    path.write_text("title: m\nphotographs: [x]\n")
    with pytest.raises(LabelError, match=r"mini\.yaml"):
        read_labels(path)


def test_images_may_have_scenes_and_no_scores(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.csv").write_text("name,scenes,reference,session_1\na.png,night;plant,web,val\n")
    fields = "title: Mine\nfolder: mine\nlabels: {form: scenes, file: a.csv, image: name}\n"
    (tmp_path / "mine.yaml").write_text(fields)
    table = read_labels(tmp_path / "mine.yaml")
    assert table.loc[0, ["scenes", "reference", "session_1"]].tolist() == [("night", "plant"), "web", "val"]
    assert table["mos"].isna().all()


def test_labels_of_biq2021_are_those_of_the_table_beside_its_manifest(tmp_path):
    """A table of 1,000 images, with the public split that the table states."""
    manifest = load_manifest("biq2021")
    ours = pd.read_csv(manifest.path.parent / manifest.labels.described)
    folder = tmp_path / "BIQ2021"
    folder.mkdir()
    for part, file in (("train", manifest.labels.train), ("test", manifest.labels.test)):
        names = ours.loc[ours["part"] == part, "image"].str.removeprefix("Images/").tolist()
        (folder / file).write_text(
            "Image Name,MOS\n" + "".join(f"{n},0.5\n" for n in (*names, f"{part}.jpg"))
        )
    table = read_labels(manifest, tmp_path).set_index("image")
    assert (table["mos"] == 0.5).all()
    assert (table.loc[ours["image"], "session_1"].to_numpy() == ours["part"]).all()
    assert table.loc[ours["image"], "scenes"].str.join(";").tolist() == ours["scenes"].tolist()
    distortions = table.loc[ours["image"], "distortion_group"].fillna("none")
    assert distortions.tolist() == ours["distortion"].tolist()
    assert table.loc["Images/train.jpg", "scenes"] == () and pd.isna(
        table.loc["Images/test.jpg", "distortion"]
    )
