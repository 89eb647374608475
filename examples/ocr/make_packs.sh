#!/usr/bin/env bash
# make_packs.sh EDGE_CONVERT FOLDER [SAMPLES]: det.pack, cls.pack and rec.pack of PP-OCR in FOLDER, calibrated with so many
# samples [16]. Fetches the models and what the samples are drawn from; needs Python 3.11.
set -euo pipefail
convert=$(realpath "$1")
mkdir -p "$2"
folder=$(realpath "$2")
samples=${3:-16}
cd "$(dirname "$0")/../.."

# Whatever the samples are drawn from comes with the models: typefaces, words, backgrounds.
python3 tests/models/fetch.py rapidocr fonts-dejavu fonts-liberation text images scikit-learn-samples matplotlib-samples \
    >"$folder/fetched.txt"
python=$(python3 tests/reference/bootstrap.py)
"$python" tests/reference/make_inputs.py ppocr-det ppocr-cls ppocr-rec >/dev/null
cache=${EDGE_MODELS:-$HOME/.cache/edge-models}

for model in rec cls det; do
    rm -rf "$folder/$model" && mkdir "$folder/$model"
    # Only the first few: each costs a run for every tensor and precision.
    find "$cache/inputs/ppocr-$model/calib" -name '*.npz' | sort | sed -n "1,${samples}p" |
        while read -r sample; do ln -s "$sample" "$folder/$model/"; done
    "$convert" "$(grep "_${model}_infer.onnx$" "$folder/fetched.txt")" -o "$folder/$model.pack" --calib "$folder/$model" \
        --card "examples/ocr/$model.toml"
done
