// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {NftProbe} from "../../src/lib/NftProbe.sol";
import {BombNft, BurnNft, EchoNft, OtherTokenNft, PlainNft} from "../Nfts.sol";
import {Test} from "../Test.sol";

contract NftProbeTest is Test {
    address private _owner = _wallet("host");

    function test_isErc721_tells() external {
        vm.assertTrue(NftProbe.isErc721(address(new PlainNft(_owner))), "ERC-721");
        vm.assertFalse(NftProbe.isErc721(address(new OtherTokenNft(_owner))), "ERC-1155");
        vm.assertFalse(NftProbe.isErc721(_owner), "a wallet");
        vm.assertFalse(NftProbe.isErc721(address(0)), "nobody");
        // 0x02 is the SHA-256 precompile: it answers any question with one word.
        vm.assertFalse(NftProbe.isErc721(address(2)), "a precompile");
    }

    function test_isErc721_isFalseForWrongAnswers() external {
        vm.assertFalse(NftProbe.isErc721(address(new EchoNft("", false))), "no bytes");
        vm.assertFalse(NftProbe.isErc721(address(new EchoNft(hex"01", false))), "one byte");
        vm.assertFalse(NftProbe.isErc721(address(new EchoNft(abi.encode(2), false))), "not a bool");
        vm.assertFalse(NftProbe.isErc721(address(new EchoNft(abi.encode(1), true))), "true, as a revert");
        vm.assertTrue(NftProbe.isErc721(address(new EchoNft(abi.encode(1, 7), false))), "true, and more");
    }

    function test_findOwner_tells() external {
        vm.assertEq(NftProbe.findOwner(address(new PlainNft(_owner))), _owner, "owner");
        vm.assertEq(NftProbe.findOwner(_owner), address(0), "a wallet");
    }

    function test_findOwner_isZeroForWrongAnswers() external {
        bytes memory word = abi.encode(_owner);
        vm.assertEq(NftProbe.findOwner(address(new EchoNft("", false))), address(0), "no bytes");
        vm.assertEq(NftProbe.findOwner(address(new EchoNft(abi.encodePacked(_owner), false))), address(0), "20 bytes");
        vm.assertEq(NftProbe.findOwner(address(new EchoNft(abi.encode(_owner, 1), false))), address(0), "two words");
        vm.assertEq(NftProbe.findOwner(address(new EchoNft(word, true))), address(0), "as a revert");
        bytes memory dirty = abi.encode(uint256(uint160(_owner)) | 1 << 160);
        vm.assertEq(NftProbe.findOwner(address(new EchoNft(dirty, false))), address(0), "161 bits");
        vm.assertEq(NftProbe.findOwner(address(new EchoNft(word, false))), _owner, "owner");
    }

    function test_ask_costsAtMostItsLimit() external {
        _assertCheap(address(new BurnNft()), "gas burnt");
        _assertCheap(address(new BombNft(16_000, false)), "huge answer");
        _assertCheap(address(new BombNft(16_000, true)), "huge revert");
        _assertCheap(address(new BombNft(100_000_000, false)), "more memory than the gas pays");
    }

    function _assertCheap(address nft, string memory what) private view {
        uint256 before = gasleft();
        vm.assertFalse(NftProbe.isErc721(nft), what);
        vm.assertEq(NftProbe.findOwner(nft), address(0), what);
        // Two limits, two cold accesses at most, and the cost of asking (cheatcode calls included).
        vm.assertLe(before - gasleft(), 2 * NftProbe.CALL_GAS + 20_000, what);
    }
}
