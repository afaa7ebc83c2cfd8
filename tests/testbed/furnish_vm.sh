#!/bin/sh
# Makes an unpacked Debian system one that boots in the virtual machine of the testbed: furnish_vm.sh ROOT KEYS
# KEYS is a directory with the key of the host and the one with which its users log in.
set -eu
root=$1 keys=$2
cd "$root"

echo '/dev/vda / ext4 defaults 0 1' >etc/fstab
echo testbed-vm >etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 testbed-vm\n' >etc/hosts
cat >etc/systemd/network/lan.network <<'END'
[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
END

# What the machine outside waits for: it reads the serial console.
cat >etc/systemd/system/testbed-ready.service <<'END'
[Unit]
After=docker.service ssh.service systemd-user-sessions.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo testbed: ready >/dev/ttyS0'
[Install]
WantedBy=multi-user.target
END
chroot . systemctl --quiet enable systemd-networkd testbed-ready
# They cost seconds at every boot, or work at a moment of their own choice.
chroot . systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
  e2scrub_reap.service fstrim.timer getty@.service serial-getty@.service

# An ordinary user, as administrators have one: not in the group docker.
chroot . useradd --create-home --no-user-group --gid users --shell /bin/bash operator
echo 'operator ALL=(ALL) NOPASSWD: ALL' >etc/sudoers.d/operator
chmod 440 etc/sudoers.d/operator

rm -f etc/ssh/ssh_host_*
install -m 600 "$keys/host" etc/ssh/ssh_host_ed25519_key
install -m 644 "$keys/host.pub" etc/ssh/ssh_host_ed25519_key.pub
for home in root home/operator; do
  mkdir -p $home/.ssh
  chmod 700 $home/.ssh
  install -m 600 "$keys/user.pub" $home/.ssh/authorized_keys
done
chroot . chown -R operator:users /home/operator

# Half the size of one for all hardware, and read by an emulated processor.
printf 'virtio_pci\nvirtio_blk\next4\n' >>etc/initramfs-tools/modules
sed -i 's/^MODULES=.*/MODULES=list/' etc/initramfs-tools/initramfs.conf
chroot . update-initramfs -u

rm -rf var/cache/apt/* var/lib/apt/lists/* usr/share/doc/* usr/share/man/* usr/share/locale/*
