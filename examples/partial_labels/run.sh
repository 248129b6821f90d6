#!/usr/bin/env bash
# The ladder of Estienne et al. (Learn2Reg 2020) where labels are partial: head-and-neck CT at 6 mm, a narrow network.
# usage: run.sh HEAD_NECK_CT OUT [FACTOR [ARGUMENT...]]
#   the folder with images/ and labels/; FACTOR lengthens every training, which gets the further arguments
set -euo pipefail
data=$1 out=$2 factor=${3:-1} further=("${@:4}")
here=$(dirname "$(realpath "$0")")
mkdir -p "$out"
cd "$out"

# 1. One grid for all: 6 mm, affinely onto the first patient, as the published cohorts were.
names=1=brainstem,2=cord,3=parotid-right,4=parotid-left,5=oesophagus,6=larynx,7=mandible
[ -d scans ] || anamorph dataset create "$data" -o scans --name HeadNeck --validation 0 --test 0 --pairs unpaired --label-names $names
first=$(python -c 'from anamorph.data import read_dataset; print(read_dataset("scans").cases[0].key)')
[ -d aligned ] || anamorph preprocess --dataset scans -o aligned --spacing 6 --shape 48,48,64 --crop body --align affine --reference "$first"

# 2. Three cohorts: one annotates the parotids alone, one mandible and cord, a small one everything.
python "$here/make_cohorts.py" aligned cohorts
complete=(--dataset cohorts/Complete_dataset.json)
all=("${complete[@]}" --dataset cohorts/Parotids_dataset.json --dataset cohorts/MandibleCord_dataset.json)

train() { # NAME TASK EPOCHS ARGUMENTS...
  local name=$1 task=$2 epochs=$(($3 * factor))
  shift 3
  anamorph train "$task" -o "runs/$name" --resume --epochs "$epochs" --cache cache "${further[@]}" "$@"
}

# 3. On the small cohort alone: one direction, then both.
train baseline symmetric 12 "${complete[@]}" --preset small-head-neck-baseline --set pairs_per_scan=5
train symmetric symmetric 12 "${complete[@]}" --preset small-head-neck-symmetric --set pairs_per_scan=5

# 4. First on all scans without labels, then on the small cohort.
train unsupervised symmetric 12 "${all[@]}" --preset small-head-neck-unsupervised --set pairs_per_scan=2
train tuned-unsupervised symmetric 12 "${complete[@]}" --preset small-head-neck-symmetric --set pairs_per_scan=5 \
  --pretrained runs/unsupervised

# 5. Segment with what each cohort knows, predict the rest, go on from step 4 with it, then on the small cohort.
train segment segment 20 "${all[@]}" --preset small-head-neck
anamorph predict segment "${all[@]}" --model runs/segment -o pseudo --overwrite
pseudo=()
for name in Complete Parotids MandibleCord; do pseudo+=(--dataset "pseudo/$name"); done
train noisy-labels symmetric 12 "${pseudo[@]}" --preset small-head-neck-noisy-labels --set pairs_per_scan=2 \
  --pretrained runs/unsupervised
train tuned-noisy-labels symmetric 12 "${complete[@]}" --preset small-head-neck-symmetric --set pairs_per_scan=5 \
  --pretrained runs/noisy-labels

# 6. Best validation of each rung, on patients that none has seen.
python "$here/ladder.py" runs/{baseline,symmetric,tuned-unsupervised,tuned-noisy-labels}
